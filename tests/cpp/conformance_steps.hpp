// The steps of the conformance table in C++: tests/conformance/README.md says what each does.
// Keeps true: an unknown step, word or field is an error; what is not as expected is thrown as `wrong`.
#ifndef DULY_TESTS_CPP_CONFORMANCE_STEPS_HPP
#define DULY_TESTS_CPP_CONFORMANCE_STEPS_HPP

#include <dirent.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <future>

#include "conformance_callbacks.hpp"

// One step, done once.
class act {
public:
    act(std::shared_ptr<world> w, step_fields &fields, long long repetition)
        : w_(std::move(w)), f(fields), repetition_(repetition) {}

    void perform_step(const std::string &verb) {
        using step_of = void (act::*)();
        static const std::map<std::string, step_of> steps = {
            {"pool", &act::pool}, {"close", &act::close}, {"shutdown", &act::shutdown}, {"drop_pool", &act::drop_pool},
            {"stats", &act::stats}, {"threads", &act::threads}, {"set_workers", &act::set_workers},
            {"pause_pool", &act::pause_pool}, {"resume_pool", &act::resume_pool}, {"queue", &act::queue},
            {"set_queue", &act::set_queue}, {"queue_stats", &act::queue_stats}, {"pause_queue", &act::pause_queue},
            {"resume_queue", &act::resume_queue}, {"submit", &act::submit}, {"try_submit", &act::try_submit},
            {"submit_async", &act::submit_async},
            {"wait", &act::wait}, {"wait_async", &act::wait_async}, {"outcome", &act::outcome}, {"cancel", &act::cancel},
            {"drop_task", &act::drop_task}, {"on_complete", &act::on_complete}, {"completed", &act::completed},
            {"released", &act::released}, {"await_start", &act::await_start}, {"started", &act::started},
            {"drops", &act::drops}, {"cause", &act::cause}, {"leaks", &act::leaks}, {"running", &act::running},
            {"every", &act::every}, {"periodic_stats", &act::periodic_stats}, {"cancel_periodic", &act::cancel_periodic},
            {"wait_periodic", &act::wait_periodic}, {"drop_periodic", &act::drop_periodic}, {"group", &act::group}, {"group_wait", &act::group_wait},
            {"drop_group", &act::drop_group}, {"wait_any", &act::wait_any}, {"wait_all", &act::wait_all}, {"order", &act::order}, {"share", &act::share},
            {"open", &act::open}, {"mark", &act::mark}, {"pause", &act::pause}, {"token", &act::token},
            {"cancel_token", &act::cancel_token}, {"token_state", &act::token_state},
        };
        const auto found = steps.find(verb);
        if (found == steps.end()) throw wrong("there is no step " + verb + " in C++");
        (this->*found->second)();
    }

    static void await_drops(record &of, long long wanted) {
        settles(SETTLE, [&] { return of.drops == wanted; });
        same("the number of releases", of.drops, wanted);
    }
    static void balanced(const char *what, const duly::stats &books) {
        if (books.queued != 0 || books.running != 0 || !duly_stats_balance(&books)) throw wrong(std::string(what) + " does not balance");
    }

protected:
    using status = duly::status;
    static std::string word(const std::error_code &code, const char *good) {
        return code ? duly::name(static_cast<status>(code.value())) : good;
    }
    std::string numbered(const std::string &name) const {
        return repetition_ < 0 ? name : name + "." + std::to_string(repetition_);
    }
    std::string pool_name() { return f.text("pool", "pool"); }
    duly::pool pool_here() { return w_->find(&world::pools, pool_name(), "pool"); }
    void answered(const std::error_code &code) { same("the answer", word(code, "ok"), f.text("expect", "ok")); }
    template <class Options, class R, class V> void set(Options &options, R (Options::*option)(V), const char *key) {
        const auto given = f.number(key);
        if (!given) return;
        if constexpr (std::is_same_v<V, duly::span>) {
            (options.*option)(ms(*given));
        } else {
            (options.*option)(static_cast<std::size_t>(*given));
        }
    }
    template <class Options> void set_overflow(Options &options) {
        static const std::map<std::string, duly::overflow> policies = {
            {"block", duly::overflow::block}, {"reject", duly::overflow::reject}, {"drop_newest", duly::overflow::drop_newest},
            {"drop_oldest", duly::overflow::drop_oldest}, {"caller_runs", duly::overflow::caller_runs}};
        if (const auto given = f.text("overflow")) options.overflow(policies.at(*given));
    }

    // Pools.
    void pool() {
        using o = duly::pool_options;
        o options;
        const auto name = pool_name();
        const auto shown = f.text("name");
        if (shown) options.name(*shown);
        set(options, &o::workers, "workers");
        set(options, &o::capacity, "capacity");
        set(options, &o::max_blocked_producers, "max_blocked_producers");
        set(options, &o::max_replacements, "max_replacements");
        set(options, &o::replace_after, "replace_after_ms");
        set(options, &o::default_timeout, "default_timeout_ms");
        set(options, &o::drop_drain, "drop_drain_ms");
        set(options, &o::stack_size, "stack_size");
        set_overflow(options);
        const auto counts = std::make_shared<hook_counts>();
        options.hook([counts](const duly::event &what) {
            const auto kind = static_cast<std::size_t>(what.kind());
            if (kind < counts->size()) (*counts)[kind]++;
        });
        if (const auto given = f.text("threads"))
            options.threads(*given == "eager" ? duly::threads::eager : duly::threads::on_demand);
        std::error_code code;
        auto made = duly::pool::make(options, code);
        if (!code) {
            w_->add(&world::pools, name, std::move(made), "pools");
            w_->set(&world::pool_names, name, shown.value_or("duly"));
            w_->set(&world::hooks, name, counts);
        }
        answered(code);
    }
    void close() { pool_here().close(); }
    void shutdown() {
        std::error_code code;
        const auto drained = f.flag("drained");
        auto abandoned = f.list("abandoned");
        const auto left = f.number("threads_left");
        const auto report = pool_here().shutdown(ms(f.number("drain_ms", 0)), code);
        same("the answer", word(code, "ok"), "ok");
        if (drained) same("drained", report.drained(), *drained);
        if (abandoned) {
            auto got = report.abandoned();
            std::sort(got.begin(), got.end());
            std::sort(abandoned->begin(), abandoned->end());
            same("the number of labels", static_cast<long long>(got.size()), static_cast<long long>(abandoned->size()));
            for (std::size_t i = 0; i < got.size(); i++) same("a label", got[i], (*abandoned)[i]);
        }
        if (left) same("threads_left", static_cast<long long>(report.threads_left()), *left);
        same_counters(report.stats());
    }
    void drop_pool() { w_->take(&world::pools, pool_name(), "pool"); }
    void same_counters(const duly::stats &books) {
        static const std::pair<const char *, std::uint64_t duly::stats::*> counters[] = {
#define COUNTER(name) {#name, &duly::stats::name}
            COUNTER(submitted), COUNTER(succeeded), COUNTER(failed), COUNTER(panicked), COUNTER(cancelled),
            COUNTER(deadline_exceeded), COUNTER(shed), COUNTER(abandoned), COUNTER(queued), COUNTER(running),
            COUNTER(refused), COUNTER(late), COUNTER(overdue), COUNTER(replaced), COUNTER(stalled), COUNTER(unobserved),
            COUNTER(blocked_producers), COUNTER(workers)};
#undef COUNTER
        for (const auto &[name, at] : counters)
            if (const auto wanted = f.number(name)) same(name, static_cast<long long>(books.*at), *wanted);
    }
    // Checks again and again for 5 s.
    template <class Check> void settle(Check check) {
        std::string last;
        if (!settles(SETTLE, [&] {
                try {
                    check();
                    return true;
                } catch (const wrong &what) {
                    last = what.what();
                    return false;
                }
            }))
            throw wrong(last);
    }
    void stats() {
        settle([&] { same_counters(pool_here().stats()); });
    }
    void threads() {
        const std::string prefix = w_->find(&world::pool_names, pool_name(), "pool") + "-";
        const auto wanted = f.number("count", 0);
        settle([&] {
            long long count = 0;
            DIR *folder = opendir("/proc/self/task");
            while (const dirent *entry = folder ? readdir(folder) : nullptr) {
                std::string name;
                std::ifstream(std::string("/proc/self/task/") + entry->d_name + "/comm") >> name;
                count += name.compare(0, prefix.size(), prefix) == 0;
            }
            if (folder) closedir(folder);
            same("the number of threads", count, wanted);
        });
    }
    void set_workers() {
        std::error_code code;
        pool_here().set_workers(static_cast<std::size_t>(f.number("count", 0)), code);
        answered(code);
    }
    void pause_pool() { pool_here().pause(); }
    void resume_pool() { pool_here().resume(); }

    // Queues.
    duly::queue queue_of(const std::string &name) {
        return name == "default" ? pool_here().default_queue() : w_->find(&world::queues, name, "queue");
    }
    duly::queue queue_here() {
        (void)pool_name();
        return queue_of(f.text("queue", ""));
    }
    void queue() {
        using o = duly::queue_options;
        const std::string name = f.text("queue", "");
        o options;
        options.name(name);
        set(options, &o::capacity, "capacity");
        set(options, &o::max_blocked_producers, "max_blocked_producers");
        set(options, &o::weight, "weight");
        set(options, &o::limit, "limit");
        set(options, &o::key_limit, "key_limit");
        set(options, &o::key_capacity, "key_capacity");
        set_overflow(options);
        std::error_code code;
        auto added = pool_here().add_queue(options, code);
        if (!code) {
            same("the name", added.name(), name);
            w_->add(&world::queues, name, std::move(added), "queues");
        }
        answered(code);
    }
    void set_queue() {
        using set_one = void (duly::queue::*)(std::size_t, std::error_code &) const noexcept;
        static const std::pair<const char *, set_one> setters[] = {{"capacity", &duly::queue::set_capacity},
                                                                    {"weight", &duly::queue::set_weight},
                                                                    {"limit", &duly::queue::set_limit},
                                                                    {"key_limit", &duly::queue::set_key_limit},
                                                                    {"key_capacity", &duly::queue::set_key_capacity}};
        const auto queue = queue_here();
        const auto ends = f.list("unlimited").value_or(std::vector<std::string>());
        std::error_code code;
        for (const auto &[name, setter] : setters) {
            const auto given = f.number(name);
            const bool none = std::find(ends.begin(), ends.end(), name) != ends.end();
            if (!code && (given || none)) (queue.*setter)(none ? duly::unlimited : static_cast<std::size_t>(*given), code);
        }
        answered(code);
    }
    void queue_stats() {
        const auto queue = queue_here();
        settle([&] {
            const auto numbers = queue.stats();
            const std::pair<const char *, std::uint64_t> all[] = {{"submitted", numbers.submitted}, {"queued", numbers.queued},
                {"running", numbers.running}, {"blocked_producers", numbers.blocked_producers}};
            for (const auto &[name, value] : all)
                if (const auto wanted = f.number(name)) same(name, static_cast<long long>(value), *wanted);
            if (const auto wanted = f.flag("paused")) same("paused", static_cast<long long>(numbers.paused), *wanted);
        });
    }
    void pause_queue() { queue_here().pause(); }
    void resume_queue() { queue_here().resume(); }

    // Tasks.
    void submit() {
        submit_by([](const auto &where, auto &options, auto &callback, auto &code) { return where.submit(options, callback, code); });
    }
    void try_submit() {
        submit_by([](const auto &where, auto &options, auto &callback, auto &code) { return where.try_submit(options, callback, code); });
    }
    void submit_async() { submit_by(nullptr); }
    duly::task_options task_options_here() {
        using o = duly::task_options;
        o options;
        if (const auto given = f.text("label")) options.label(numbered(*given));
        set(options, &o::timeout, "timeout_ms");
        set(options, &o::submit_timeout, "submit_timeout_ms");
        set(options, &o::delay, "delay_ms");
        if (const auto odd = f.text("timeout")) {
            if (*odd == "nan") options.timeout(std::chrono::duration<double>(NAN));
            if (*odd == "negative") options.timeout(-1ms);
            if (*odd == "longest") options.timeout(std::chrono::hours::max());
        }
        if (const auto given = f.text("token")) options.token(w_->find(&world::tokens, *given, "token"));
        if (const auto given = f.text("queue")) options.in(queue_of(*given));
        if (const auto given = f.text("key")) options.key(*given);
        set_overflow(options);
        return options;
    }
    template <class Way> void submit_by(Way way) {
        const auto options = task_options_here();
        const std::string name = numbered(f.text("task", ""));
        const auto it = read_callback(f);
        const auto fresh = std::make_shared<record>();
        w_->add(&world::records, name, fresh, "tasks");
        auto callback = make_callback(w_, fresh, name, pool_name(), it);
        std::error_code code;
        const auto into = f.text("group");
        ::answer task;
        if constexpr (std::is_null_pointer_v<Way>) {
            task = submitted(pool_here(), options, callback, code);
        } else {
            task = into ? way(w_->find(&world::groups, *into, "group"), options, callback, code)
                        : way(pool_here(), options, callback, code);
        }
        if (!code) {
            w_->set_handle(*fresh, std::make_shared<answer>(std::move(task)));
        } else {
            same("the number of starts of a refused callback", fresh->starts, 0);
            same("the number of releases of a refused callback", fresh->drops, 0);
            if (!callback && it.run != "null") throw wrong("the refused callback did not come back");
            w_->take(&world::records, name, "task");
        }
        same("the answer", word(code, "accepted"), f.text("expect", "accepted"));
    }
    std::string task_name() { return numbered(f.text("task", "")); }
    std::shared_ptr<record> record_here() { return w_->find(&world::records, task_name(), "task"); }
    std::shared_ptr<answer> task_here() {
        auto task = w_->handle_of(task_name());
        if (!task) throw wrong("there is no handle of the task " + task_name());
        return task;
    }
    // What waiting and taking gives, and holds it against what the step expects.
    template <class Get> void take_by(Get get) {
        const auto known = record_here();
        std::string is = "succeeded", message, reason;
        std::optional<long long> got;
        std::int32_t number = 0;
        try {
            got = get();
            if (!got) is = "timed_out";
        } catch (const duly::error &refused) {
            is = word(refused.code(), "");
        } catch (const duly::failed &thrown) {
            is = "failed", number = thrown.code(), message = thrown.what();
        } catch (const duly::cancelled &thrown) {
            is = "cancelled", reason = thrown.reason();
        } catch (const duly::task_error &thrown) {
            is = duly::name(thrown.outcome());
        }
        if (const auto how = task_here()->outcome(); how && is != "timed_out") known->saw(*how);
        same("the answer", is, f.text("expect", ""));
        if (const auto wanted = f.number("value")) same("the value", got.value_or(-1), *wanted);
        const auto least = f.number("value_at_least"), most = f.number("value_at_most");
        if ((least && got < least) || (most && got > most)) throw wrong("the value is " + std::to_string(*got) + ", out of bounds");
        if (const auto wanted = f.number("code")) same("the code", number, *wanted);
        const auto part = f.text("message");
        if (part && message.find(*part) == std::string::npos) throw wrong("the message is \"" + message + "\"");
        // Which signal is the platform's.
        if (reason.rfind("signal ", 0) == 0) reason = "signal";
        if (const auto wanted = f.text("reason")) same("the reason", reason, *wanted);
    }
    void wait() {
        const auto task = task_here();
        const ms limit(f.number("timeout_ms", 10000));
        take_by([&] { return task->get_for(limit); });
    }
    void wait_async() {
        const auto task = task_here();
        auto future = awaited(*task);
        take_by([&]() -> std::optional<long long> {
            if (future.wait_for(START) != std::future_status::ready) return std::nullopt;
            return future.get();
        });
    }
#if DULY_HPP_COROUTINES
    struct waiting {
        struct promise_type {
            std::promise<long long> answer;
            waiting get_return_object() { return {answer.get_future()}; }
            std::suspend_never initial_suspend() noexcept { return {}; }
            std::suspend_never final_suspend() noexcept { return {}; }
            void return_value(long long value) { answer.set_value(value); }
            void unhandled_exception() { answer.set_exception(std::current_exception()); }
        };
        std::future<long long> answer;
    };
    static waiting await_it(::answer &task) { co_return co_await task; }
    static std::future<long long> awaited(::answer &task) { return await_it(task).answer; }
    static waiting submit_it(const duly::pool &pool, const duly::task_options &options, duly::callback<long long> &callback,
                             ::answer &task, std::error_code &code) {
        try {
            task = co_await pool.submit_async(options, callback);
        } catch (const duly::error &refused) {
            code = refused.code();
        }
        co_return 0;
    }
    // Driven to its end on this thread.
    static ::answer submitted(const duly::pool &pool, const duly::task_options &options, duly::callback<long long> &callback,
                              std::error_code &code) {
        ::answer task;
        submit_it(pool, options, callback, task, code).answer.get();
        return task;
    }
#else
    static ::answer submitted(const duly::pool &pool, const duly::task_options &options, duly::callback<long long> &callback,
                              std::error_code &code) {
        ::answer task;
        std::promise<void> over;
        pool.submit_async(options, callback, [&](::answer accepted, std::error_code refused) {
            task = std::move(accepted);
            code = refused;
            over.set_value();
        });
        over.get_future().get();
        return task;
    }
    static std::future<long long> awaited(::answer &task) { return task.to_future(); }
#endif
    void outcome() {
        const auto how = task_here()->outcome();
        if (how) record_here()->saw(*how);
        same("the outcome", how ? duly::name(*how) : "pending", f.text("expect", ""));
    }
    void cancel() {
        const auto reason = f.text("reason");
        const auto task = task_here();
        const std::string is = (reason ? task->cancel(*reason) : task->cancel()) ? "decided" : "ended";
        same("the answer", is, f.text("expect").value_or(is));
    }
    void drop_task() { w_->set_handle(*record_here(), nullptr); }
    void on_complete() {
        task_here()->on_complete([known = record_here()](duly::outcome how) { known->completed = how; });
    }
    // Waits until a note is there and compares it.
    void noted(std::atomic<duly::outcome> record::*note, const char *what) {
        const auto known = record_here();
        if (!settles(START, [&] { return (*known.*note).load() != duly::outcome{}; })) throw wrong(std::string("there is no ") + what);
        same(what, duly::name((*known.*note).load()), f.text("expect", ""));
    }
    void completed() { noted(&record::completed, "completion"); }
    void cause() { noted(&record::cause, "cause"); }
    void released() {
        const bool is = task_here()->released_for(ms(f.number("timeout_ms", 10000)));
        same("released", is ? "yes" : "no", f.text("expect", "yes"));
    }
    void await_start() {
        const auto has = [&] {
            const auto all = w_->all(&world::records);
            const auto found = all.find(task_name());
            return found != all.end() && found->second->starts > 0;
        };
        if (!settles(START, has)) throw wrong("the callback has not started");
    }
    void started() { same("the number of starts", record_here()->starts, f.number("count", 0)); }
    void drops() { await_drops(*record_here(), f.number("count", 0)); }
    void order() {
        const auto wanted = f.list("tasks").value_or(std::vector<std::string>());
        std::vector<std::string> got;
        settles(START, [&] {
            got.clear();
            for (auto &name : w_->starts())
                if (std::find(wanted.begin(), wanted.end(), name) != wanted.end()) got.push_back(name);
            return got.size() >= wanted.size();
        });
        if (got != wanted) throw wrong("started in another order");
    }
    void share() {
        const auto first = static_cast<std::size_t>(f.number("of_first", 0));
        const auto least = f.number("at_least", 0), most = f.number("at_most", 0);
        const std::string task = f.text("task", "");
        if (!settles(START, [&] { return w_->starts().size() >= first; })) throw wrong("too few callbacks have started");
        const auto starts = w_->starts();
        const auto count = std::count_if(starts.begin(), starts.begin() + static_cast<std::ptrdiff_t>(first),
                                         [&](const std::string &name) { return name.substr(0, name.rfind('.')) == task; });
        if (count < least || count > most) throw wrong(std::to_string(count) + " of the first starts are of " + task);
    }

    void labels_are(std::vector<duly::leak> (duly::pool::*of)() const) {
        auto wanted = f.list("labels").value_or(std::vector<std::string>());
        std::sort(wanted.begin(), wanted.end());
        settle([&] {
            std::vector<std::string> got;
            for (const auto &one : (pool_here().*of)()) got.push_back(one.label);
            std::sort(got.begin(), got.end());
            if (got != wanted) throw wrong("other labels, " + std::to_string(got.size()) + " of them");
        });
    }
    void leaks() { labels_are(&duly::pool::leaks); }
    void running() { labels_are(&duly::pool::running); }

    // Periodic tasks.
    duly::periodic periodic_here() { return w_->find(&world::periodics, f.text("periodic", ""), "periodic task"); }
    void every() {
        const std::string name = f.text("periodic", "");
        duly::periodic_options options(ms(f.number("period_ms", 0)));
        if (f.text("missed", "skip") == "catch_up") options.catch_up();
        if (f.flag("overlap").value_or(false)) options.overlap();
        set(options, &duly::periodic_options::max_failures, "max_failures");
        options.run(task_options_here());
        const auto it = read_callback(f);
        const auto fresh = std::make_shared<record>();
        w_->add(&world::records, name, fresh, "tasks");
        std::error_code code;
        const auto begun = duly::periodic::make(pool_here(), options, make_body(w_, fresh, name, pool_name(), it), code);
        if (!code) w_->add(&world::periodics, name, begun, "periodic tasks");
        if (code) w_->take(&world::records, name, "task");
        same("the answer", word(code, "accepted"), f.text("expect", "accepted"));
    }
    void periodic_stats() {
        const auto periodic = periodic_here();
        settle([&] {
            const auto is = periodic.stats();
            const std::pair<const char *, std::uint64_t> all[] = {{"runs", is.runs}, {"failures", is.failures},
                {"missed", is.missed}, {"active", is.active}};
            for (const auto &[name, value] : all) {
                const auto wanted = f.number(name), least = f.number((std::string(name) + "_at_least").c_str());
                if (wanted) same(name, static_cast<long long>(value), *wanted);
                if (least && static_cast<long long>(value) < *least) throw wrong(std::string(name) + " is too small");
            }
        });
    }
    void cancel_periodic() {
        const std::string is = periodic_here().cancel() ? "decided" : "ended";
        same("the answer", is, f.text("expect").value_or(is));
    }
    void wait_periodic() {
        static const std::map<duly::periodic_end, std::string> ends = {{duly::periodic_end::cancelled, "cancelled"},
            {duly::periodic_end::shut_down, "shut_down"}, {duly::periodic_end::failed, "failed"}};
        const auto end = periodic_here().wait_for(ms(f.number("timeout_ms", 10000)));
        same("the end", end ? ends.at(*end) : "timed_out", f.text("expect", ""));
    }
    void drop_periodic() { w_->take(&world::periodics, f.text("periodic", ""), "periodic task"); }

    // Several tasks.
    void group() {
        const std::string name = f.text("group", "");
        duly::group_options options;
        options.label(name);
        set(options, &duly::group_options::limit, "limit");
        if (!f.flag("fail_fast").value_or(true)) options.go_on();
        const duly::group made(pool_here(), options);
        if (f.flag("detach").value_or(false)) made.detach();
        w_->add(&world::groups, name, made, "groups");
    }
    void group_wait() {
        const auto result = w_->find(&world::groups, f.text("group", ""), "group").wait_for(ms(f.number("timeout_ms", 10000)));
        same("the answer", !result ? "timed_out" : result->succeeded() ? "ok" : "failed", f.text("expect", ""));
        if (const auto wanted = f.list("errors")) {
            std::vector<std::string> got;
            for (const auto &one : result->errors()) got.push_back(one.label());
            if (got != *wanted) throw wrong("the errors are others: " + result->text());
        }
        if (const auto wanted = f.number("cancelled"))
            same("cancelled by the group", static_cast<long long>(result->cancelled_by_group()), *wanted);
    }
    void drop_group() { w_->take(&world::groups, f.text("group", ""), "group"); }
    std::vector<duly::any_task> tasks_here(const std::vector<std::string> &names) {
        std::vector<duly::any_task> tasks;
        for (const auto &name : names) {
            const auto task = w_->handle_of(name);
            if (!task) throw wrong("there is no handle of the task " + name);
            tasks.push_back(*task);
        }
        return tasks;
    }
    void wait_any() {
        const auto names = f.list("tasks").value_or(std::vector<std::string>());
        const auto first = duly::wait_any(tasks_here(names), ms(f.number("timeout_ms", 10000)));
        same("the first", first ? names[*first] : "none", f.text("expect", "none"));
    }
    void wait_all() {
        const auto names = f.list("tasks").value_or(std::vector<std::string>());
        const auto tasks = tasks_here(names);
        const auto missing = f.list("missing").value_or(std::vector<std::string>());
        const bool all = duly::wait_all(tasks, ms(f.number("timeout_ms", 10000)));
        std::vector<std::string> got;
        for (std::size_t i = 0; i < names.size() && !all; i++)
            if (!tasks[i].outcome()) got.push_back(names[i]);
        if (got != missing) throw wrong("others are missing than expected");
    }

    // The rest.
    void open() { w_->gate_of(f.text("gate", ""))->open(); }
    void mark() { w_->set(&world::marks, f.text("name", ""), now()); }
    void pause() { std::this_thread::sleep_for(ms(f.number("ms", 0))); }
    void token() {
        const auto parent = f.text("parent");
        const auto limit = f.number("timeout_ms");
        duly::token made;
        if (parent) {
            const auto above = w_->find(&world::tokens, *parent, "token");
            made = limit ? above.child(ms(*limit)) : above.child();
        } else if (limit) {
            made = duly::token(ms(*limit));
        }
        w_->add(&world::tokens, f.text("token", ""), made, "tokens");
    }
    duly::token token_here() { return w_->find(&world::tokens, f.text("token", ""), "token"); }
    void cancel_token() {
        const auto reason = f.text("reason");
        reason ? token_here().cancel(*reason) : token_here().cancel();
    }
    void token_state() { same("the token", token_here().is_cancelled() ? "cancelled" : "live", f.text("expect", "")); }

    std::shared_ptr<world> w_;
    step_fields &f;
    long long repetition_;
};

#endif
