// The same without exceptions and without RTTI: error codes, and failures said through the context.
#include <memory>

#include "check.hpp"

#if DULY_HPP_EXCEPTIONS || defined(__GXX_RTTI)
#error "to be compiled with -fno-exceptions -fno-rtti"
#endif

TEST(p01_values_come_back_without_exceptions) {
    const auto pool = make_pool(small());
    std::error_code code;
    auto task = pool.submit({}, [] { return std::make_unique<int>(7); }, code);
    CHECK(!code && task);
    const auto value = task.get(code);
    CHECK(!code && value && **value == 7);
    CHECK(!task.get(code) && code == duly::status::taken);
    auto nothing = pool.try_submit({}, [] {}, code);
    CHECK(nothing.get_for(LONG, code) && !code);
    end_pool(pool);
}

TEST(p07_a_failure_is_said_without_exceptions) {
    const auto pool = make_pool(small());
    std::error_code code;
    auto task = pool.submit({}, [](duly::context &here) { here.fail(5, "planted"); }, code);
    CHECK(!task.get(code) && code == duly::outcome::failed && task.code() == 5);
    CHECK_TEXT(task.message(), "planted");
    end_pool(pool);
}

TEST(p16_refusals_are_codes_without_exceptions) {
    std::error_code code;
    CHECK(!duly::pool::make(small(0), code) && code == duly::status::invalid_argument);
    const auto pool = make_pool(small());
    CHECK(!pool.submit(duly::task_options().timeout(-1s), [] {}, code) && code == duly::status::invalid_argument);
    CHECK(!pool.submit({}, static_cast<void (*)()>(nullptr), code) && code == duly::status::invalid_argument);
    end_pool(pool);
    CHECK(!pool.submit({}, [] {}, code) && code == duly::status::shut_down);
}

TEST(p02_answers_come_in_time_without_exceptions) {
    const auto pool = make_pool(small());
    gate door;
    std::error_code code;
    auto task = pool.submit(duly::task_options().timeout(20ms), [&](duly::context &here) {
        here.on_cancel([&](duly::outcome) { door.open(); });
        door.pass();
    }, code);
    CHECK(!task.get(code) && code == duly::outcome::deadline_exceeded);
    CHECK(task.released_for(LONG));
    std::atomic<bool> told{false};
    task.on_complete([&] { told = true; }, code);
    CHECK(!code && told);
    end_pool(pool);
}

TEST(p06_a_scope_borrows_without_exceptions) {
    const auto pool = make_pool(small());
    int sum = 0;
    {
        std::error_code code;
        duly::task_scope scope(pool);
        for (int i = 0; i < 10; i++) scope.submit({}, [&sum] { sum++; }, code);
    }
    CHECK(sum == 10);
    end_pool(pool);
}

TEST(p04_a_submit_waits_for_room_without_a_thread_and_without_exceptions) {
    const auto pool = make_pool(small().capacity(1));
    gate door;
    std::error_code code;
    std::atomic<int> ran{0}, told{0};
    auto running = pool.submit({}, [&] { door.pass(); }, code);
    door.await_entered();
    auto queued = pool.submit({}, [] {}, code);
    pool.submit_async({}, [&] { ran++; }, [&](duly::task<void> task, std::error_code refused) {
        CHECK(task && !refused);
        told++;
    });
    CHECK(told == 0);
    door.open();
    CHECK(until([&] { return told == 1 && ran == 1; }));
    end_pool(pool);
}

TEST(p01_streams_and_flights_without_exceptions) {
    const auto pool = make_pool(small(2));
    std::error_code code;
    int at = 0;
    const auto source = [&]() -> std::optional<int> {
        if (at == 3) return std::nullopt;
        return at++;
    };
    const auto half = [](int item, duly::context &here) {
        if (item == 1) here.fail(5, "planted");
        return item * 2;
    };
    const auto answers = duly::stream<int>::make(pool, {}, source, half, code);
    CHECK(!code);
    for (int i = 0; i < 3; i++) {
        auto answer = answers.next_for(LONG, code);
        CHECK(!code && answer && *answer);
        if (!answer) return;
        const auto value = answer->get(code);
        CHECK(i == 1 ? code == duly::outcome::failed && answer->code() == 5 : value == i * 2);
    }
    CHECK(!*answers.next_for(LONG, code));
    const auto flight = duly::single_flight<int>::make(pool, {}, code);
    const auto answer = flight.run("key", {}, [] { return 7; }, code);
    CHECK(!code && answer.value() && *answer.value() == 7);
    end_pool(pool);
}
