// P16, P13, P15: bad input is an error; everything may be called from callbacks; tasks of C are tasks of C++.
#include <cmath>
#include <functional>
#include <limits>

#include "check.hpp"

TEST(p16_spans_come_from_any_duration) {
    using duly::span;
    const auto ns = [](span value) { return value.nanoseconds(); };
    CHECK(ns(2s) == 2 * DULY_SECOND && ns(1ms) == DULY_MILLISECOND && ns(0s) == 0);
    // Never early: parts of a nanosecond count as a whole one.
    CHECK(ns(std::chrono::duration<double>(1.5e-9)) == 2);
    CHECK(ns(std::chrono::duration<int, std::pico>(1001)) == 2);
    CHECK(ns(std::chrono::duration<int, std::pico>(1000)) == 1);
    CHECK(ns(std::chrono::duration<double>(0.25)) == DULY_SECOND / 4);
    CHECK(ns(std::chrono::duration<int, std::ratio<1, 3>>(1)) == 333333334);
    // Too long is the longest, not something short.
    CHECK(ns(std::chrono::hours::max()) == DULY_FOREVER - 1);
    CHECK(ns(std::chrono::duration<double>(1e300)) == DULY_FOREVER - 1);
    CHECK(ns(std::chrono::duration<double>(HUGE_VAL)) == DULY_FOREVER - 1);
    CHECK(ns(std::chrono::nanoseconds::max()) == INT64_MAX);
    CHECK(ns(duly::forever) == DULY_FOREVER);
    CHECK(!span(-1ns).is_sound() && ns(-1ns) == 0 && !span(std::chrono::hours::min()).is_sound());
    CHECK(!span(std::chrono::duration<double>(NAN)).is_sound() && !span(std::chrono::duration<double>(-1e-300)).is_sound());
    static_assert(span(1s).nanoseconds() == DULY_SECOND);
}

TEST(p16_options_that_cannot_be_meant_are_refused) {
    CHECK_THROWS(duly::error, duly::pool(small(0)),
                 seen.code() == duly::status::invalid_argument && std::strstr(seen.what(), "workers(0)"));
    CHECK_THROWS(duly::error, duly::pool(small().capacity(0)), std::strstr(seen.what(), "capacity(0)") != nullptr);
    CHECK_THROWS(duly::error, duly::pool(small().default_timeout(-1s)), std::strstr(seen.what(), "default_timeout") != nullptr);
    CHECK_THROWS(duly::error, duly::pool(small(static_cast<std::size_t>(-1))), seen.code() == duly::status::invalid_argument);
    CHECK_THROWS(duly::error, duly::pool(small().overflow(static_cast<duly::overflow>(77))),
                 seen.code() == duly::status::invalid_argument);
    const duly::pool pool(small());
    const auto task = [&](duly::span timeout) { return pool.submit(duly::task_options().timeout(timeout), [] {}); };
    CHECK_THROWS(duly::error, task(-1ms), seen.code() == duly::status::invalid_argument && std::strstr(seen.what(), "timeout"));
    CHECK_THROWS(duly::error, task(std::chrono::duration<double>(NAN)), seen.code() == duly::status::invalid_argument);
    CHECK_THROWS(duly::error, pool.submit(duly::task_options().submit_timeout(-1s), [] {}),
                 seen.code() == duly::status::invalid_argument);
    // None at all is a time that has passed, not the default; it passes before the task is accepted or after.
    gate door;
    auto stuck = pool.submit([&] { door.pass(); });
    std::error_code code;
    auto late = pool.submit(duly::task_options().timeout(0s), [] {}, code);
    CHECK(code == duly::status::deadline_exceeded || (!late.get_for(LONG, code) && code == duly::outcome::deadline_exceeded));
    door.open();
    task(std::chrono::hours::max()).get();
    end_pool(pool);
}

TEST(p16_callables_that_are_none_are_refused) {
    const duly::pool pool(small());
    const auto invalid = [](const duly::error &seen) { return seen.code() == duly::status::invalid_argument; };
    CHECK_THROWS(duly::error, pool.submit(std::function<int()>()), invalid(seen));
    CHECK_THROWS(duly::error, pool.submit(static_cast<int (*)()>(nullptr)), invalid(seen));
    duly::callback<void> none;
    CHECK_THROWS(duly::error, pool.submit({}, none), invalid(seen));
    std::error_code code;
    CHECK(!pool.try_submit({}, std::function<void()>(), code) && code == duly::status::invalid_argument);
    end_pool(pool);
}

TEST(p16_empty_handles_answer) {
    duly::pool none(nullptr);
    duly::task<int> task;
    std::error_code code;
    CHECK(!none && !task);
    CHECK(!none.submit({}, [] {}, code) && code == duly::status::null_argument);
    CHECK(!none.shutdown(0s, code) && code == duly::status::null_argument);
    none.close();
    CHECK(none.stats().workers == 0);
    CHECK(!task.outcome() && !task.get(code) && code == duly::status::null_argument);
    CHECK(!task.cancel() && !task.released_for(0s) && task.label().empty() && task.exception() == nullptr);
    CHECK_THROWS(duly::error, task.get(), seen.code() == duly::status::null_argument);
    CHECK_THROWS(duly::error, task.wait(), seen.code() == duly::status::null_argument);
    CHECK_THROWS(duly::error, task.on_complete([] {}), seen.code() == duly::status::null_argument);
    CHECK_THROWS(duly::error, task.to_future().get(), seen.code() == duly::status::null_argument);
    const duly::report report;
    CHECK(!report.drained() && report.abandoned().empty() && report.text().empty());
    duly::pool pool(small());
    const duly::pool moved(std::move(pool));
    CHECK(!pool && moved);
    end_pool(moved);
}

TEST(p16_every_status_and_outcome_has_its_code) {
    for (int number = -100; number <= 0; number++) {
        const auto status = static_cast<duly::status>(number);
        const std::error_code code = status;
        CHECK(static_cast<bool>(code) == (number != 0));
        CHECK_TEXT(code.message(), duly_status_message(number));
    }
    CHECK(std::error_code(duly::status::queue_full) != std::error_code(duly::outcome::failed));
    CHECK(std::error_code(duly::status::timed_out) == std::errc::timed_out);
    CHECK(std::error_code(duly::outcome::deadline_exceeded) == std::errc::timed_out);
    CHECK(!std::error_code(duly::outcome::succeeded));
    CHECK_TEXT(duly::name(duly::status::queue_full), "queue_full");
    CHECK_TEXT(duly::name(duly::outcome::abandoned), "abandoned");
}

TEST(p13_everything_may_be_called_from_callbacks) {
    const duly::pool pool(small(1));
    auto outer = pool.submit([&] {
        auto inner = pool.submit([] { return 20; });
        auto other = pool.submit([] { return 1; });
        CHECK(other.cancel() && other.released_for(LONG));
        std::error_code code;
        CHECK(!pool.shutdown(0s, code) && code == duly::status::would_deadlock);
        CHECK(pool.stats().running >= 1); // a thread that stands in for this one may run the other
        int more = 0;
        {
            duly::task_scope scope(pool);
            scope.submit([&] { more = 2; });
        }
        return inner.get() + more;
    });
    CHECK(outer.get() == 22);
    auto self = std::make_shared<duly::any_task>();
    gate door;
    auto waits = pool.submit([&, self] {
        door.pass();
        self->wait();
    });
    *self = waits;
    door.open();
    CHECK_THROWS(duly::error, waits.get(), seen.code() == duly::status::would_deadlock);
    end_pool(pool);
}

TEST(p15_a_task_of_c_is_awaited_in_cpp_and_the_other_way) {
    const duly::pool pool(small());
    duly_task *plain = nullptr;
    const auto fails = [](void *, duly_call *call) -> std::int32_t {
        duly_call_set_message(call, "from C");
        return 9;
    };
    CHECK(duly_submit(pool.native(), nullptr, fails, nullptr, nullptr, &plain) == DULY_STATUS_OK);
    const auto task = duly::any_task::adopt(plain);
    CHECK(task.wait() == duly::outcome::failed);
    CHECK_THROWS(duly::failed, task.raise(task.wait()), seen.code() == 9 && std::strstr(seen.what(), "from C"));
    auto ours = pool.submit([] { throw std::runtime_error("from C++"); });
    duly_outcome outcome{};
    CHECK(duly_task_wait(ours.native(), DULY_FOREVER, &outcome) == DULY_STATUS_OK && outcome == DULY_FAILED);
    CHECK_TEXT(duly_task_message(ours.native()), "from C++");
    end_pool(pool);
}

TEST(p09_a_pool_that_nobody_holds_drains_and_ends) {
    std::atomic<int> ran{0};
    duly::task<void> last;
    {
        const duly::pool pool(small());
        const duly::pool other(pool);
        for (int i = 0; i < 100; i++) last = other.submit([&] { ran++; });
    }
    CHECK(last.released_for(LONG) && ran == 100);
}

TEST(p09_a_shutdown_reports) {
    const duly::pool pool(small());
    gate door;
    auto running = pool.submit(duly::task_options().label("running"), [&] { door.pass(); });
    door.await_entered();
    auto queued = pool.submit(duly::task_options().label("queued"), [] {});
    const auto report = pool.shutdown(10ms);
    CHECK(!report.drained() && report.abandoned().size() == 2 && report.stuck() == std::vector<std::string>{"running"});
    CHECK(report.threads_left() == 1 && report.elapsed() >= 10ms && report.stats().abandoned == 2);
    CHECK(report.text().find("queued") != std::string::npos);
    CHECK_THROWS(duly::abandoned, queued.get(), true);
    door.open();
    CHECK(running.released_for(LONG));
}
