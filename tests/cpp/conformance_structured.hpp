// The steps of the conformance table in C++ on hooks, signals, streams and single flights.
// Keeps true: as conformance_steps.hpp; when the step `call` is over, the caller has joined its key's run, or its callback is
// submitted.
#ifndef DULY_TESTS_CPP_CONFORMANCE_STRUCTURED_HPP
#define DULY_TESTS_CPP_CONFORMANCE_STRUCTURED_HPP

#include <csignal>

#include "conformance_steps.hpp"

// A stream, and how many items were taken from its input.
struct stream_of {
    std::shared_ptr<std::atomic<long long>> pulled = std::make_shared<std::atomic<long long>>(0);
    duly::stream<long long> answers;
};

// A caller of a single flight, on a thread of its own.
struct caller {
    // Cancelled when the caller leaves; a child of the one it was given.
    duly::token token = nullptr;
    std::thread thread;
    std::atomic<bool> told{false};
    std::error_code code;
    duly::flight_answer<long long> answer;
};

class structured : public act {
public:
    using act::act;

    void perform(const std::string &verb) {
        using step_of = void (structured::*)();
        static const std::map<std::string, step_of> steps = {
            {"hook", &structured::hook}, {"shut_down_on", &structured::shut_down_on}, {"cancel_on", &structured::cancel_on},
            {"raise", &structured::raise}, {"closed", &structured::closed}, {"stream", &structured::stream},
            {"next", &structured::next}, {"pulled", &structured::pulled}, {"drop_stream", &structured::drop_stream},
            {"flight", &structured::flight}, {"call", &structured::call}, {"answer", &structured::look_at_answer},
            {"leave", &structured::leave}, {"run", &structured::run},
        };
        const auto found = steps.find(verb);
        if (found == steps.end()) return perform_step(verb);
        (this->*found->second)();
    }

    // Waits for what the caller is told, and lets it go.
    static void end_call(caller &one) {
        // A caller that hangs goes on using what is its own.
        if (!settles(START, [&] { return one.told.load(); })) throw wrong("a caller has no answer");
        one.thread.join();
    }

private:
    // Submit and answer in one.
    void run() {
        const auto options = task_options_here();
        const std::string name = f.text("task", "");
        const auto it = read_callback(f);
        const auto fresh = std::make_shared<record>();
        w_->add(&world::records, name, fresh, "tasks");
        const auto pool = pool_here();
        const auto promised = std::make_shared<std::promise<std::string>>();
        const auto value = std::make_shared<long long>(0);
        auto caller = pool.run(options, make_body(w_, fresh, name, pool_name(), it), [=](::answer task, std::error_code code) {
            if (!code && task.outcome() == duly::outcome::succeeded) *value = task.get();
            promised->set_value(code ? word(code, "") : duly::name(*task.outcome()));
        });
        if (f.flag("leave").value_or(false)) {
            if (!settles(START, [&] { return fresh->starts > 0; })) throw wrong(name + " has not started");
            return caller.leave();
        }
        auto told = promised->get_future();
        if (told.wait_for(START) != std::future_status::ready) throw wrong("the run has no answer");
        const std::string is = told.get();
        same("the answer", is, f.text("expect", "succeeded"));
        if (is == "succeeded" && it.run != "poll" && it.run != "time_left") same("the value", *value, it.value);
    }
    void hook() {
        static const char *const names[] = {"", "worker_start", "worker_stop", "late", "stalled", "unobserved"};
        const auto counts = w_->find(&world::hooks, pool_name(), "pool");
        const std::string name = f.text("hook", "");
        const auto at = std::find(std::begin(names), std::end(names), name);
        if (at == std::end(names) || name.empty()) throw wrong("there is no hook " + name);
        const auto wanted = f.number("count", 0);
        settle([&] { same(name, (*counts)[static_cast<std::size_t>(at - std::begin(names))], wanted); });
    }

    // Signals.
    static int number_of(const std::string &signal) {
        if (signal != "user1" && signal != "user2") throw wrong("there is no signal " + signal);
        return signal == "user1" ? SIGUSR1 : SIGUSR2;
    }
    std::vector<int> signals_here() {
        std::vector<int> numbers;
        for (const auto &name : f.list("signals").value_or(std::vector<std::string>())) numbers.push_back(number_of(name));
        return numbers;
    }
    void shut_down_on() { pool_here().shutdown_on(signals_here(), ms(f.number("grace_ms", 0))); }
    void cancel_on() {
        const duly::token made;
        made.cancel_on(signals_here());
        w_->add(&world::tokens, f.text("token", ""), made, "tokens");
    }
    void raise() { kill(getpid(), number_of(f.text("signal", ""))); }
    void closed() {
        const auto pool = pool_here();
        const auto look = [&] { same("closed", pool.is_closed() ? "yes" : "no", f.text("expect", "yes")); };
        f.text("expect", "yes") == "no" ? look() : settle(look);
    }

    // Streams.
    static bool among(const std::vector<std::string> &list, long long item) {
        return std::find(list.begin(), list.end(), std::to_string(item)) != list.end();
    }
    void stream() {
        const std::string name = f.text("stream", "");
        duly::stream_options options;
        set(options, &duly::stream_options::window, "window");
        if (!f.flag("ordered").value_or(true)) options.unordered();
        options.task(task_options_here());
        const auto blocks = f.list("blocks").value_or(std::vector<std::string>());
        const auto fails = f.list("fails").value_or(std::vector<std::string>());
        const bool all = std::find(blocks.begin(), blocks.end(), "all") != blocks.end();
        const auto door = w_->gate_of(f.text("gate", ""));
        const auto items = f.number("items", -1);
        const auto fresh = std::make_shared<record>();
        w_->add(&world::records, name, fresh, "tasks");
        const auto made = std::make_shared<stream_of>();
        const auto source = [pulled = made->pulled, items]() -> std::optional<long long> {
            if (*pulled == items) return std::nullopt;
            return (*pulled)++;
        };
        // Gives the item's number back.
        auto function = [fresh, all, blocks, fails, door, data = captured(fresh)](long long item) {
            fresh->starts++;
            if (all || among(blocks, item)) door->pass();
            if (among(fails, item)) throw duly::failed(static_cast<std::int32_t>(item + 1), "failed");
            return item;
        };
        made->answers = duly::stream<long long>(pool_here(), options, source, std::move(function));
        w_->add(&world::streams, name, made, "streams");
    }
    std::shared_ptr<stream_of> stream_here() { return w_->find(&world::streams, f.text("stream", ""), "stream"); }
    void next() {
        const auto from = stream_here();
        std::error_code code;
        auto given = from->answers.next_for(ms(f.number("timeout_ms", 10000)), code);
        std::string is = "succeeded";
        std::optional<long long> item;
        if (code) {
            is = word(code, "");
        } else if (!given) {
            is = "timed_out";
        } else if (!*given) {
            is = "end";
        } else {
            is = duly::name(*given->outcome());
            if (is == "failed") item = given->code() - 1;
            if (is == "succeeded") item = given->get();
        }
        same("the answer", is, f.text("expect", ""));
        const auto wanted = f.number("item");
        if (wanted && item) same("the item", *item, *wanted);
    }
    void pulled() {
        const auto least = f.number("at_least"), most = f.number("at_most");
        const long long is = *stream_here()->pulled;
        if ((least && is < *least) || (most && is > *most)) throw wrong(std::to_string(is) + " items were pulled, out of bounds");
    }
    void drop_stream() { w_->take(&world::streams, f.text("stream", ""), "stream"); }

    // Single flight.
    void flight() {
        duly::single_flight_options options;
        set(options, &duly::single_flight_options::handovers, "handovers");
        if (f.flag("retry_failed").value_or(false)) options.retry_failed();
        options.run(task_options_here());
        const auto pool = pool_here();
        w_->add(&world::flights, f.text("flight", ""), std::make_pair(duly::single_flight<long long>(pool, options), pool), "flights");
    }
    static std::uint64_t submitted_to(const duly::pool &pool) {
        const auto books = pool.stats();
        return books.submitted + books.refused;
    }
    void call() {
        const auto [flight, pool] = w_->find(&world::flights, f.text("flight", ""), "flight");
        const std::string name = f.text("caller", ""), key = f.text("key", "");
        const auto it = read_callback(f);
        const auto under = f.text("token");
        const auto one = std::make_shared<caller>();
        one->token = under ? w_->find(&world::tokens, *under, "token").child() : duly::token();
        duly::task_options options;
        options.token(one->token);
        set(options, &duly::task_options::timeout, "timeout_ms");
        const auto fresh = std::make_shared<record>();
        w_->add(&world::records, name, fresh, "tasks");
        const auto keys = flight.keys(), callers = flight.callers();
        const auto before = submitted_to(pool);
        one->thread = std::thread([one, flight = flight, key, options, body = make_callback(w_, fresh, name, "pool", it)]() mutable {
            one->answer = flight.run(key, options, body, one->code);
            body = {};
            flight = {};
            one->told = true;
        });
        w_->add(&world::callers, name, one, "callers");
        if (!settles(START, [&, &flight = flight, &pool = pool] {
                const bool joined = flight.callers() > callers, leads = flight.keys() > keys;
                return one->told || (joined && (!leads || submitted_to(pool) > before));
            }))
            throw wrong("the caller " + name + " has not joined");
    }
    void look_at_answer() {
        const auto one = w_->find(&world::callers, f.text("caller", ""), "caller");
        const bool told = settles(ms(f.number("timeout_ms", 10000)), [&] { return one->told.load(); });
        const std::string expect = f.text("expect", "");
        const auto value = f.number("value"), code = f.number("code");
        const auto message = f.text("message");
        if (!told || one->code) return same("the answer", told ? word(one->code, "") : "timed_out", expect);
        same("the answer", duly::name(*one->answer.outcome()), expect);
        if (value) same("the value", one->answer.get(), *value);
        if (code) same("the code", one->answer.code(), *code);
        if (message && one->answer.message().find(*message) == std::string::npos)
            throw wrong("the message is \"" + one->answer.message() + "\"");
    }
    void leave() {
        const auto one = w_->take(&world::callers, f.text("caller", ""), "caller");
        one->token.cancel();
        end_call(*one);
    }
};

#endif
