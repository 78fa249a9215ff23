// Runs the conformance table in C++, by the rules of tests/conformance/README.md: one line a case, "ok NAME", "FAILED NAME:
// step N: why", or "SKIPPED NAME: why"; a case of wrong.toml is ok when it fails at the step it names.
// Keeps true: every wait has an end, a case that hangs fails and the others go on.
#include <sys/wait.h>

#include <cstdio>

#include "conformance_structured.hpp"

namespace {

// A step on a thread of its own.
struct threaded {
    std::thread thread;
    std::atomic<bool> done{false};
    std::string what;
};

// A child failed at one of its steps.
struct wrong_in_child : wrong {
    std::size_t at;
    wrong_in_child(const std::string &what, std::size_t number) : wrong(what), at(number) {}
};

struct running {
    const conformance_case *one;
    std::shared_ptr<world> w = std::make_shared<world>();
    world::names<std::shared_ptr<threaded>> threads;
    world::names<pid_t> children;
    std::atomic<bool> done{false};
    // Where it failed, from 1; past the steps: at the end.
    std::size_t failed_at = 0;
    bool failed = false;
    std::string what;
};

void in_time(world &w, step_fields &f, instant start) {
    const auto end = now();
    const auto least = f.number("at_least_ms"), most = f.number("at_most_ms");
    if (const auto since = f.text("since")) start = w.find(&world::marks, *since, "mark");
    const auto took = std::to_string(std::chrono::duration<double, std::milli>(end - start).count()) + " ms";
    if (least && end - start < ms(*least)) throw wrong("early: after " + took);
    if (most && end - start > ms(*most)) throw wrong("late: after " + took);
}

void once(const std::shared_ptr<world> &w, step_fields &f, long long repetition) {
    const auto start = now();
    structured(w, f, repetition).perform(f.text("do", ""));
    in_time(*w, f, start);
    f.all_used();
}

void timed(const std::shared_ptr<world> &w, step_fields &f) {
    const auto times = f.number("times");
    if (!times) return once(w, f, -1);
    for (long long i = 0; i < *times; i++) once(w, f, i);
}

void join(running &r, const std::string &name) {
    const auto found = r.threads.find(name);
    if (found == r.threads.end()) throw wrong("there is no thread " + name);
    const auto thread = found->second;
    r.threads.erase(found);
    if (!settles(THREAD, [&] { return thread->done.load(); })) {
        // A thread that hangs goes on using what is its own.
        thread->thread.detach();
        throw wrong("thread " + name + " hangs");
    }
    thread->thread.join();
    if (!thread->what.empty()) throw wrong("on thread " + name + ": " + thread->what);
}

constexpr int BEYOND = 250;

// The child does the steps after `index` that name it, and ends with the number of the one that was not as expected, or 0.
[[noreturn]] void be_child(running &r, const std::string &name, std::size_t index) {
    const conformance_case &one = *r.one;
    for (std::size_t i = index + 1; i < one.count; i++) {
        step_fields f(one.steps[i]);
        if (f.text("child", "") != name || f.text("do", "") == "join") continue;
        try {
            timed(r.w, f);
        } catch (const std::exception &thrown) {
            const std::size_t at = i + 1 > one.set_up ? i + 1 - one.set_up : 0;
            std::fprintf(stderr, "%s, in child %s, step %zu: %s\n", one.name, name.c_str(), at, thrown.what());
            _exit(at > 0 && at < BEYOND ? static_cast<int>(at) : BEYOND);
        }
    }
    _exit(0);
}

void fork_child(running &r, const std::string &name, std::size_t index) {
    const pid_t child = r.w->fork_here();
    if (child == 0) {
        // A child that hangs is ended.
        alarm(20);
        be_child(r, name, index);
    }
    if (child < 0) throw wrong("no child");
    if (!r.children.emplace(name, child).second) throw wrong("there are two children " + name);
}

void join_child(running &r, const std::string &name) {
    const auto found = r.children.find(name);
    if (found == r.children.end()) throw wrong("there is no child " + name);
    const pid_t child = found->second;
    int status = 0;
    r.children.erase(found);
    const bool waited = waitpid(child, &status, 0) == child;
    if (!waited || WIFSIGNALED(status)) throw wrong("child " + name + " was ended by a signal");
    if (const int at = WEXITSTATUS(status))
        throw wrong_in_child("in child " + name + ": what it says stands above", static_cast<std::size_t>(at));
}

void do_step(running &r, std::size_t index) {
    step_fields f(r.one->steps[index]);
    const auto name = f.text("thread"), child = f.text("child");
    const std::string verb = f.text("do", "");
    if (verb == "fork") {
        fork_child(r, child.value_or(""), index);
        return f.all_used();
    }
    if (child && verb == "join") {
        const auto start = now();
        join_child(r, *child);
        in_time(*r.w, f, start);
        return f.all_used();
    }
    // The child's.
    if (child) return;
    if (!name) return timed(r.w, f);
    if (f.text("do", "") == "join") {
        const auto start = now();
        join(r, *name);
        in_time(*r.w, f, start);
        return f.all_used();
    }
    const auto fresh = std::make_shared<threaded>();
    if (!r.threads.emplace(*name, fresh).second) throw wrong("there are two threads " + *name);
    fresh->thread = std::thread([fresh, w = r.w, f]() mutable {
        try {
            timed(w, f);
        } catch (const std::exception &thrown) {
            fresh->what = thrown.what();
        }
        fresh->done = true;
    });
}

// What holds at the end of every case; `passed` says that nothing failed so far.
void end(running &r, bool passed) {
    world &w = *r.w;
    w.open_all();
    while (!r.threads.empty()) join(r, std::string(r.threads.begin()->first));
    while (!r.children.empty()) join_child(r, std::string(r.children.begin()->first));
    for (const auto &each : w.all(&world::streams)) w.take(&world::streams, each.first, "stream");
    for (const auto &[name, known] : w.all(&world::records)) {
        const auto task = w.handle_of(name);
        if (!task) continue;
        const auto how = task->wait_for(START);
        if (!how) throw wrong("at the end, " + name + " has no outcome");
        known->saw(*how);
    }
    for (const auto &[name, pool] : w.all(&world::pools)) {
        std::error_code code;
        const auto report = pool.shutdown(START, code);
        if (code) throw wrong("the shutdown at the end: " + code.message());
        if (!passed) continue;
        act::balanced("the report at the end", report.stats());
        act::balanced("the pool at the end", pool.stats());
    }
    for (const auto &each : w.all(&world::callers)) structured::end_call(*w.take(&world::callers, each.first, "caller"));
    for (const auto &[name, known] : w.all(&world::records)) {
        if (const auto task = w.handle_of(name)) {
            if (!task->released_for(START)) throw wrong("at the end, " + name + " is not released");
            known->saw(task->outcome().value_or(duly::outcome{}));
        }
        act::await_drops(*known, 1);
    }
}

void run_case(const std::shared_ptr<running> &r) {
    const auto fails = [&](std::size_t at, const std::exception &thrown) {
        if (r->failed) return;
        r->failed = true;
        r->failed_at = at;
        r->what = thrown.what();
    };
    const conformance_case &one = *r->one;
    for (std::size_t i = 0; i < one.count && !r->failed; i++) {
        try {
            do_step(*r, i);
        } catch (const wrong_in_child &thrown) {
            fails(thrown.at, thrown);
        } catch (const std::exception &thrown) {
            fails(i + 1 > one.set_up ? i + 1 - one.set_up : 0, thrown);
        }
    }
    try {
        end(*r, !r->failed);
    } catch (const std::exception &thrown) {
        fails(SIZE_MAX, thrown);
    }
    r->done = true;
}

bool report(const running &r, bool hung) {
    const conformance_case &one = *r.one;
    const bool good = !hung && (one.fails_at ? r.failed && r.failed_at == one.fails_at : !r.failed);
    const std::string name = (one.fails_at ? "wrong_" : "") + std::string(one.name);
    const std::string why = hung                       ? "it has not ended after 60 s"
                            : !r.failed                ? "it passed: the runner does not look"
                            : r.failed_at == SIZE_MAX ? r.what
                                                       : "step " + std::to_string(r.failed_at) + ": " + r.what;
    std::printf("%s %s%s\n", good ? "ok" : "FAILED", name.c_str(), good ? "" : (": " + why).c_str());
    return good;
}

} // namespace

int main() {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    std::atomic<std::size_t> next{0};
    std::atomic<bool> bad{false};
    std::vector<std::thread> runners;
    for (int i = 0; i < 4; i++)
        runners.emplace_back([&] {
            for (std::size_t at; (at = next++) < conformance_cases_count + conformance_wrong_count;) {
                const auto &one = at < conformance_cases_count ? conformance_cases[at] : conformance_wrong[at - conformance_cases_count];
                if (one.skipped) {
                    std::printf("SKIPPED %s: %s\n", one.name, one.skipped);
                    continue;
                }
                const auto r = std::make_shared<running>();
                r->one = &one;
                std::thread body(run_case, r);
                const bool hung = !settles(CASE, [&] { return r->done.load(); });
                if (!report(*r, hung)) bad = true;
                if (hung) {
                    r->w->open_all();
                    body.detach();
                } else {
                    body.join();
                }
            }
        });
    for (auto &runner : runners) runner.join();
    return bad;
}
