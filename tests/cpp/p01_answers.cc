// P1, P3: one answer, for every way to wait: get, get_for, futures, completion callbacks, coroutines.
#include <future>
#include <memory>

#include "check.hpp"

TEST(p01_values_of_any_kind_come_back) {
    const duly::pool pool(small(2));
    CHECK(pool.submit([] { return 42; }).get() == 42);
    CHECK(*pool.submit([] { return std::make_unique<int>(7); }).get() == 7);
    CHECK(pool.submit([] { return std::string(1000, 'x'); }).get() == std::string(1000, 'x'));
    pool.submit([] {}).get();
    static int shared = 5;
    // A reference is a copy of what it refers to.
    auto copied = pool.submit([]() -> int & { return shared; });
    static_assert(std::is_same_v<decltype(copied), duly::task<int>>);
    CHECK(copied.get() == 5);
    struct alignas(64) wide {
        int number;
    };
    CHECK(pool.submit([] { return wide{3}; }).get().number == 3);
    end_pool(pool);
}

static int seven() {
    return 7;
}

TEST(p01_callables_of_any_kind_run) {
    const duly::pool pool(small(2));
    auto data = std::make_unique<int>(1);
    CHECK(pool.submit([held = std::move(data)] { return *held + 1; }).get() == 2);
    CHECK(pool.submit(seven).get() == 7);
    CHECK(pool.submit(&seven).get() == 7);
    CHECK(pool.submit(std::function<int()>(seven)).get() == 7);
    CHECK(pool.submit([](duly::context &here) { return here.is_cancelled() ? 0 : 8; }).get() == 8);
    struct once {
        int operator()() && { return 9; }
    };
    CHECK(pool.submit(once{}).get() == 9);
    std::packaged_task<int()> packaged(seven);
    auto future = packaged.get_future();
    pool.submit(std::move(packaged)).get();
    CHECK(future.get() == 7);
    end_pool(pool);
}

TEST(p01_the_value_moves_to_the_first_taker) {
    const duly::pool pool(small());
    auto task = pool.submit([] { return std::make_unique<int>(7); });
    CHECK(*task.get() == 7);
    CHECK_THROWS(duly::error, task.get(), seen.code() == duly::status::taken);
    std::error_code code;
    CHECK(!task.get(code) && code == duly::status::taken);
    CHECK(task.outcome() == duly::outcome::succeeded);
    auto nothing = pool.submit([] {});
    nothing.get();
    CHECK_THROWS(duly::error, nothing.get(), seen.code() == duly::status::taken);
    end_pool(pool);
}

TEST(p01_of_many_takers_one_gets_it) {
    const duly::pool pool(small(2));
    for (int round = 0; round < 50; round++) {
        auto task = pool.submit([] { return std::make_unique<int>(7); });
        std::atomic<int> got{0}, told{0};
        std::thread takers[4];
        for (auto &taker : takers)
            taker = std::thread([&] {
                std::error_code code;
                if (task.get(code)) got++;
                if (code == duly::status::taken) told++;
            });
        for (auto &taker : takers) taker.join();
        CHECK(got == 1 && told == 3);
    }
    end_pool(pool);
}

TEST(p01_a_future_always_resolves) {
    const duly::pool pool(small());
    CHECK(pool.submit([] { return 5; }).to_future().get() == 5);
    pool.submit([] {}).to_future().get();
    CHECK_THROWS(std::logic_error, pool.submit([]() -> int { throw std::logic_error("planted"); }).to_future().get(),
                 std::string(seen.what()) == "planted");
    gate door;
    auto running = pool.submit([&] { door.pass(); });
    door.await_entered();
    auto queued = pool.submit([] { return 1; });
    auto future = queued.to_future();
    CHECK(future.wait_for(0s) == std::future_status::timeout);
    CHECK(queued.cancel("not wanted"));
    CHECK_THROWS(duly::cancelled, future.get(), seen.reason() == "not wanted");
    auto late = pool.submit(duly::task_options().timeout(20ms), [] { return 1; }).to_future();
    CHECK_THROWS(duly::deadline_exceeded, late.get(), seen.outcome() == duly::outcome::deadline_exceeded);
    auto left = pool.submit([] { return 1; }).to_future();
    (void)pool.shutdown(0s);
    CHECK_THROWS(duly::abandoned, left.get(), true);
    door.open();
    CHECK(running.released_for(LONG));
}

TEST(p03_a_completion_callback_is_told_the_outcome_once) {
    const duly::pool pool(small());
    gate door;
    std::atomic<int> told{0}, gone{0};
    std::atomic<duly::outcome> how{};
    auto task = pool.submit([&] { door.pass(); });
    task.on_complete([&, count = drops(gone)](duly::outcome outcome) {
        how = outcome;
        told++;
    });
    CHECK(told == 0);
    door.open();
    CHECK(until([&] { return gone == 1; }));
    CHECK(told == 1 && how == duly::outcome::succeeded);
    // The task has ended: here and now.
    task.on_complete([&] { told++; });
    CHECK(told == 2);
    end_pool(pool);
}

TEST(p01_every_handle_sees_the_same_outcome) {
    const duly::pool pool(small());
    auto task = pool.submit(duly::task_options().label("twin"), [] { return 1; });
    const duly::any_task other = task, third(other);
    CHECK(task.wait() == duly::outcome::succeeded);
    CHECK(other.wait() == duly::outcome::succeeded && third.outcome() == duly::outcome::succeeded);
    CHECK_TEXT(third.label(), "twin");
    CHECK(task.get() == 1);
    end_pool(pool);
}

#if DULY_HPP_COROUTINES
namespace {
// A coroutine that runs by itself and leaves what it returned or threw in a promise.
template <class T> struct detached {
    struct promise_type {
        std::promise<T> answer;
        detached get_return_object() { return {answer.get_future()}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_value(T value) { answer.set_value(std::move(value)); }
        void unhandled_exception() { answer.set_exception(std::current_exception()); }
    };
    std::future<T> answer;
};

detached<int> sum(duly::pool pool, duly::task<int> first) {
    const int a = co_await first;
    const auto b = co_await pool.submit([] { return std::make_unique<int>(2); });
    co_await pool.submit([] {});
    co_return a + *b;
}

detached<int> awaits(duly::task<int> task) {
    co_return co_await task;
}
} // namespace

TEST(p01_a_coroutine_awaits_tasks) {
    const duly::pool pool(small());
    gate door;
    auto blocked = pool.submit([&] {
        door.pass();
        return 40;
    });
    auto answer = sum(pool, std::move(blocked)).answer;
    CHECK(answer.wait_for(0s) == std::future_status::timeout);
    door.open();
    CHECK(answer.get() == 42);
    for (int round = 0; round < 1000; round++) CHECK(sum(pool, pool.submit([] { return 1; })).answer.get() == 3);
    end_pool(pool);
}

TEST(p01_a_coroutine_sees_what_the_callback_threw_and_what_ended_it) {
    const duly::pool pool(small());
    CHECK_THROWS(std::logic_error, awaits(pool.submit([]() -> int { throw std::logic_error("planted"); })).answer.get(),
                 std::string(seen.what()) == "planted");
    gate door;
    auto blocked = pool.submit([&] { door.pass(); });
    door.await_entered();
    auto late = awaits(pool.submit(duly::task_options().timeout(20ms), [] { return 1; })).answer;
    CHECK_THROWS(duly::deadline_exceeded, late.get(), true);
    door.open();
    end_pool(pool);
}
#endif
