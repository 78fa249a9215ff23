// P12, P9, P14, P11: periodic tasks; what runs and what outlived its task is named; what a pool tells its hook and the log;
// signals; forks.
#include <csignal>
#include <functional>
#include <map>

#include "check.hpp"

TEST(p12_a_periodic_task_runs_again_and_again_until_it_is_cancelled) {
    const duly::pool pool(small());
    std::atomic<int> runs{0}, gone{0};
    const duly::periodic ticks(pool, duly::periodic_options(2ms).run(duly::task_options().label("tick")),
                               [&, count = drops(gone)] { runs++; });
    CHECK(until([&] { return runs >= 5; }));
    CHECK(!ticks.wait_for(1ms) && ticks.reason().empty());
    CHECK(ticks.cancel("enough") && !ticks.cancel());
    CHECK(ticks.wait_for(LONG) == duly::periodic_end::cancelled);
    CHECK_TEXT(ticks.reason(), "enough");
    CHECK(until([&] { return gone == 1; }));
    // One that was under way when it was cancelled counts as a failure.
    CHECK(ticks.stats().runs >= 5 && ticks.stats().failures <= 1);
    end_pool(pool);
}

TEST(p12_a_periodic_task_ends_after_so_many_failures) {
    const duly::pool pool(small());
    std::atomic<int> runs{0};
    const duly::periodic ticks(pool, duly::periodic_options(1ms).max_failures(3), [&](duly::context &) {
        runs++;
        throw std::runtime_error("planted");
    });
    CHECK(ticks.wait_for(LONG) == duly::periodic_end::failed);
    CHECK(runs == 3 && ticks.stats().failures == 3);
    end_pool(pool);
}

TEST(p16_a_period_that_cannot_be_meant_is_refused) {
    const duly::pool pool(small());
    std::atomic<int> gone{0};
    const auto invalid = [](const duly::error &seen) { return seen.code() == duly::status::invalid_argument; };
    CHECK_THROWS(duly::error, duly::periodic(pool, 0s, [count = drops(gone)] {}), invalid(seen) && std::strstr(seen.what(), "period"));
    CHECK_THROWS(duly::error, duly::periodic(pool, -1s, [] {}), invalid(seen));
    CHECK_THROWS(duly::error, duly::periodic(pool, duly::periodic_options(1s).max_failures(0), [] {}), invalid(seen));
    CHECK_THROWS(duly::error, duly::periodic(pool, duly::periodic_options(1s).jitter(2s), [count = drops(gone)] {}), invalid(seen));
    CHECK_THROWS(duly::error, duly::periodic(pool, 1s, std::function<void()>()), invalid(seen));
    CHECK(gone == 2);
    end_pool(pool);
    std::error_code code;
    CHECK(!duly::periodic::make(pool, 1s, [] {}, code) && code == duly::status::shut_down);
}

TEST(p09_what_runs_and_what_outlived_its_task_is_named) {
    const duly::pool pool(small());
    gate door;
    auto task = pool.submit(duly::task_options().label("stays").submitted_at(DULY_HERE), [&] { door.pass(); });
    door.await_entered();
    CHECK(pool.leaks().empty());
    auto now = pool.running();
    CHECK(now.size() == 1 && now[0].label == "stays" && !now[0].outcome);
    CHECK(task.cancel());
    now = pool.leaks();
    CHECK(now.size() == 1 && now[0].outcome == duly::outcome::cancelled && now[0].thread == "cpp-0");
    CHECK(now.size() == 1 && now[0].submitted_at.find("p12_periodic.cc:") != std::string::npos);
    // In whole milliseconds.
    CHECK(until([&] { return pool.leaks().at(0).age > 0s; }));
    CHECK(pool.leaks_text().find("stays") != std::string::npos);
    door.open();
    CHECK(task.released_for(LONG));
    CHECK(until([&] { return pool.leaks().empty() && pool.running().empty(); }));
    end_pool(pool);
}

TEST(p12_the_token_of_a_periodic_task_ends_it) {
    const duly::pool pool(small());
    const duly::periodic ticks(pool, 1h, [] {});
    const duly::token own = ticks.token();
    own.cancel("enough");
    CHECK(ticks.wait_for(LONG) == duly::periodic_end::cancelled);
    CHECK_TEXT(ticks.reason(), "enough");
    CHECK(!duly::periodic().token());
    end_pool(pool);
}

namespace {
// What a hook was told, by kind; its test ends when the hook is gone.
struct told {
    std::mutex lock;
    std::map<duly::event_kind, int> counts;
    std::string label, text, pool;
    std::optional<duly::outcome> outcome, callback;

    void note(const duly::event &what) {
        const std::lock_guard<std::mutex> locked(lock);
        counts[what.kind()]++;
        if (what.kind() != duly::event_kind::late && what.kind() != duly::event_kind::unobserved) return;
        label = what.label(), text = what.text(), pool = what.pool();
        outcome = what.outcome(), callback = what.callback();
    }
    int count(duly::event_kind kind) {
        const std::lock_guard<std::mutex> locked(lock);
        return counts[kind];
    }
};
} // namespace

TEST(p12_a_hook_is_told_what_happens_and_goes_with_its_last_pool) {
    told notes;
    std::atomic<int> gone{0};
    {
        auto options = small().replace_after(1h);
        options.hook([&, count = std::make_shared<drops>(gone)](const duly::event &what) { notes.note(what); });
        duly::pool pool(options), second(options);
        options = duly::pool_options();
        end_pool(second);
        second = {};
        gate door;
        auto late = pool.submit(duly::task_options().label("late"), [&] { door.pass(); });
        door.await_entered();
        CHECK(late.cancel());
        door.open();
        CHECK(until([&] { return notes.count(duly::event_kind::late) == 1; }));
        {
            const std::lock_guard<std::mutex> locked(notes.lock);
            CHECK(notes.label == "late" && notes.pool == "cpp" && notes.outcome == duly::outcome::cancelled);
            CHECK(notes.callback == duly::outcome::succeeded);
        }
        (void)pool.submit(duly::task_options().label("lost"), [] { throw std::runtime_error("planted"); });
        CHECK(until([&] { return notes.count(duly::event_kind::unobserved) == 1; }));
        {
            const std::lock_guard<std::mutex> locked(notes.lock);
            CHECK(notes.label == "lost" && notes.outcome == duly::outcome::failed && !notes.callback);
            CHECK(notes.text.empty());
        }
        CHECK(gone == 0);
        end_pool(pool);
        CHECK(notes.count(duly::event_kind::worker_start) == 2 && notes.count(duly::event_kind::worker_stop) == 2);
    }
    CHECK(until([&] { return gone == 1; }));
}

TEST(p16_a_pool_that_is_refused_leaves_its_hook_alone) {
    std::atomic<int> gone{0};
    std::error_code code;
    {
        auto options = small().hook([count = drops(gone)](const duly::event &) {}).workers(SIZE_MAX);
        options.carry([count = std::make_shared<drops>(gone)] { return 1; }, [](int &) {});
        CHECK(!duly::pool::make(options, code) && code == duly::status::invalid_argument);
        CHECK(gone == 0);
        const duly::pool good(options.workers(1));
        end_pool(good);
        CHECK(gone == 0);
    }
    CHECK(until([&] { return gone == 2; }));
    CHECK(!duly::pool::make(small().hook(std::function<void(const duly::event &)>()), code));
    CHECK(code == duly::status::invalid_argument);
}

TEST(p12_log_lines_go_where_they_are_wanted_and_nowhere_later) {
    std::atomic<int> lines{0}, gone{0};
    const auto lose = [](const char *label) {
        const duly::pool pool(small());
        (void)pool.submit(duly::task_options().label(label), [] { throw std::runtime_error("planted"); });
        end_pool(pool);
    };
    duly::set_log([&, count = drops(gone)](duly::log_level level, std::string_view line) {
        if (level == duly::log_level::warn && line.find("noisy") != std::string_view::npos) lines++;
    });
    lose("noisy");
    CHECK(until([&] { return lines == 1; }));
    std::error_code code;
    duly::set_log(std::function<void(duly::log_level, std::string_view)>(), code);
    CHECK(code == duly::status::invalid_argument && gone == 0);
    duly::unset_log();
    CHECK(until([&] { return gone == 1; }));
    lose("noisy, again");
    CHECK(lines == 1);
}

CHILD(drains_on_a_signal) {
    const duly::pool pool(small());
    pool.shutdown_on({SIGUSR1, SIGUSR2}, 20s);
    CHECK(!pool.wait_shutdown(0s) && !pool.is_closed() && pool.signal() == 0);
    gate door;
    auto task = pool.submit([&] { door.pass(); });
    door.await_entered();
    std::raise(SIGUSR1);
    CHECK(until([&] { return pool.is_closed(); }) && pool.signal() == SIGUSR1);
    CHECK(!pool.wait_shutdown(10ms));
    door.open();
    const auto report = pool.wait_shutdown(LONG);
    CHECK(report && report->drained() && task.wait() == duly::outcome::succeeded);
    _exit(test::failed ? 1 : 42);
}

CHILD(is_cancelled_by_a_signal) {
    const duly::pool pool(small());
    const duly::token root;
    root.cancel_on({SIGUSR2});
    auto task = pool.submit(duly::task_options().token(root.child()), [](duly::context &here) {
        while (!here.is_cancelled()) std::this_thread::sleep_for(1ms);
    });
    std::raise(SIGUSR2);
    CHECK_THROWS(duly::cancelled, task.get(), seen.reason().find("signal") != std::string::npos);
    _exit(test::failed ? 1 : 42);
}

TEST(p14_signals_drain_a_pool_and_cancel_a_token) {
    for (const char *name : {"drains_on_a_signal", "is_cancelled_by_a_signal"}) {
        const auto child = run_child(name);
        CHECK(WIFEXITED(child.status) && WEXITSTATUS(child.status) == 42);
    }
}

TEST(p14_what_cannot_be_bound_to_is_refused) {
    const duly::pool pool(small());
    const auto invalid = [](const duly::error &seen) { return seen.code() == duly::status::invalid_argument; };
    CHECK_THROWS(duly::error, pool.shutdown_on({SIGKILL}, 1s), invalid(seen));
    CHECK_THROWS(duly::error, pool.shutdown_on({SIGUSR1}, -1s), invalid(seen));
    CHECK_THROWS(duly::error, pool.wait_shutdown(0s), invalid(seen));
    CHECK_THROWS(duly::error, duly::token().cancel_on({}), invalid(seen));
    CHECK_THROWS(duly::error, duly::token(nullptr).cancel_on({SIGUSR1}), seen.code() == duly::status::null_argument);
    CHECK(!pool.is_closed());
    end_pool(pool);
    CHECK(pool.is_closed());
}

TEST(p11_in_a_forked_child_nothing_hangs_and_a_new_pool_works) {
    const duly::pool pool(small());
    gate door;
    auto running = pool.submit([&] { door.pass(); });
    door.await_entered();
    CHECK(!pool.is_inherited());
    const pid_t pid = fork();
    if (pid == 0) {
        alarm(30);
        std::error_code code;
        bool good = pool.is_inherited() && pool.is_closed() && running.outcome() == duly::outcome::abandoned;
        good = good && !pool.submit({}, [] {}, code) && code == duly::status::shut_down;
        const duly::pool fresh(small());
        good = good && fresh.submit([] { return 7; }).get() == 7 && fresh.shutdown(LONG).drained();
        _exit(good ? 42 : 1);
    }
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 42);
    CHECK(!pool.is_inherited() && !running.outcome());
    door.open();
    end_pool(pool);
}

TEST(p16_the_library_says_what_it_is) {
    CHECK(duly::is_compatible() && duly::version_number() == DULY_VERSION_NUMBER);
    CHECK(std::string(duly::version()).find('.') == 1);
    CHECK(std::error_code(duly::status::no_descriptors) == std::errc::too_many_files_open);
}
