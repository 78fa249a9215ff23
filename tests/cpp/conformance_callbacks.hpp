// The callbacks of the conformance table in C++.
// Keeps true: what a callback captures is counted when it goes; none looks at its cancellation but `poll`.
#ifndef DULY_TESTS_CPP_CONFORMANCE_CALLBACKS_HPP
#define DULY_TESTS_CPP_CONFORMANCE_CALLBACKS_HPP

#include <algorithm>
#include <functional>

#include "conformance_world.hpp"

struct built_in {
    std::string run, message, gate, target, inner, inner_run;
    long long value = 0, code = 1, millis = 0;
    bool detached = false;
};

// The callback that a step asks for; reads the fields that belong to it and no others.
inline built_in read_callback(step_fields &of) {
    built_in it;
    it.run = of.text("run", "");
    std::string run = it.run;
    const auto must = [&](const char *key) {
        const auto given = of.text(key);
        if (!given) throw wrong(std::string("the field is missing: ") + key);
        return *given;
    };
    if (run == "submit") {
        it.inner = must("inner");
        run = it.inner_run = of.text("inner_run", "return");
        it.detached = of.flag("inner_detached").value_or(false);
        static const std::set<std::string> inner = {"return", "sleep", "block", "poll", "time_left"};
        if (!inner.count(run)) throw wrong("no inner callback " + run);
    }
    static const std::set<std::string> all = {"return", "fail", "sleep", "block", "poll", "hook", "time_left", "submit",
                                              "wait", "cancel", "close", "shutdown", "stats", "null"};
    if (!all.count(it.run)) throw wrong("there is no callback " + it.run + " in C++");
    static const std::set<std::string> valued = {"return", "sleep", "block", "poll", "hook"};
    if (valued.count(run)) it.value = of.number("value", 0);
    if (run == "sleep") it.millis = of.number("ms", 0);
    if (run == "block" || run == "hook") it.gate = must("gate");
    if (run == "fail") {
        it.code = of.number("code", 1);
        it.message = of.text("message", "failed");
    }
    if (run == "wait" || run == "cancel") it.target = must("target");
    if (run == "shutdown") it.millis = of.number("ms", 1000);
    return it;
}

// Counts when it goes: the captured data of a callback.
class captured {
public:
    explicit captured(std::shared_ptr<record> of) : record_(std::move(of)) {}
    captured(captured &&) noexcept = default;
    ~captured() {
        if (record_) record_->drops++;
    }

private:
    std::shared_ptr<record> record_;
};

duly::callback<long long> make_callback(const std::shared_ptr<world> &w, const std::shared_ptr<record> &r, const std::string &name,
                                        const std::string &pool, const built_in &it);

inline long long perform(const std::shared_ptr<world> &w, record &r, const std::string &pool, const built_in &it,
                         duly::context &here) {
    long long value = it.value;
    if (it.run == "fail") throw duly::failed(static_cast<std::int32_t>(it.code), it.message);
    if (it.run == "sleep") std::this_thread::sleep_for(ms(it.millis));
    if (it.run == "hook") here.on_cancel([opens = w->gate_of(it.gate)] { opens->open(); });
    if (it.run == "block" || it.run == "hook") w->gate_of(it.gate)->pass();
    if (it.run == "poll") {
        if (!settles(30s, [&] { return here.is_cancelled(); })) throw duly::failed(99, "nobody cancelled");
        r.cause = here.cause().value_or(duly::outcome::succeeded);
    } else if (it.run == "time_left") {
        const auto left = here.time_left();
        value = left ? std::min<long long>(std::chrono::duration_cast<ms>(*left).count(), INT32_MAX) : INT32_MAX;
    } else if (it.run == "submit") {
        built_in inner = it;
        inner.run = it.inner_run;
        const auto fresh = std::make_shared<record>();
        w->add(&world::records, it.inner, fresh, "task");
        duly::task_options options;
        if (it.detached) options.detached();
        auto callback = make_callback(w, fresh, it.inner, pool, inner);
        std::error_code code;
        auto task = w->find(&world::pools, pool, "pool").submit(options, callback, code);
        if (code) {
            w->take(&world::records, it.inner, "task");
            throw duly::failed(2, code.message());
        }
        w->set_handle(*fresh, std::make_shared<answer>(std::move(task)));
        value = 0;
    } else if (it.run == "wait") {
        std::error_code code;
        const auto task = w->handle_of(it.target);
        const auto got = task ? task->get_for(START, code) : std::nullopt;
        if (!got) throw duly::failed(3, code.message());
        value = *got;
    } else if (it.run == "cancel") {
        const auto task = w->handle_of(it.target);
        if (!task) throw duly::failed(3, "no handle");
        value = task->cancel();
    } else if (it.run == "close") {
        w->find(&world::pools, pool, "pool").close();
    } else if (it.run == "shutdown") {
        std::error_code code;
        w->find(&world::pools, pool, "pool").shutdown(ms(it.millis), code);
        value = code ? 1 : 0;
    } else if (it.run == "stats") {
        value = static_cast<long long>(w->find(&world::pools, pool, "pool").stats().running);
    }
    return value;
}

inline auto make_body(const std::shared_ptr<world> &w, const std::shared_ptr<record> &r, const std::string &name,
                      const std::string &pool, const built_in &it) {
    return [w, r, name, pool, it, data = captured(r)](duly::context &here) {
        w->started(name);
        r->starts++;
        return perform(w, *r, pool, it, here);
    };
}

inline duly::callback<long long> make_callback(const std::shared_ptr<world> &w, const std::shared_ptr<record> &r,
                                               const std::string &name, const std::string &pool, const built_in &it) {
    if (it.run == "null") return std::function<long long()>();
    return make_body(w, r, name, pool, it);
}

#endif
