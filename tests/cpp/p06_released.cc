// P6, P5: what a callable captures and what it returns is destroyed exactly once, when nothing can use it any more; a refused
// callable comes back.
#include <functional>
#include <memory>

#include "check.hpp"

TEST(p06_a_callable_is_destroyed_once_before_the_task_is_released) {
    const duly::pool pool(small(2));
    for (int round = 0; round < 300; round++) {
        std::atomic<int> gone{0};
        auto task = pool.submit([count = drops(gone)] {});
        CHECK(task.released_for(LONG));
        CHECK(gone == 1);
    }
    end_pool(pool);
}

TEST(p06_a_callable_that_never_runs_is_destroyed_once) {
    const duly::pool pool(small());
    gate door;
    std::atomic<int> cancelled{0}, expired{0}, abandoned{0};
    auto stuck = pool.submit([&] { door.pass(); });
    door.await_entered();
    auto first = pool.submit([count = drops(cancelled)] {});
    auto second = pool.submit(duly::task_options().timeout(20ms), [count = drops(expired)] {});
    auto third = pool.submit([count = drops(abandoned)] {});
    CHECK(first.cancel());
    CHECK(until([&] { return cancelled == 1; }));
    CHECK(second.wait() == duly::outcome::deadline_exceeded);
    CHECK(until([&] { return expired == 1; }));
    (void)pool.shutdown(0s);
    CHECK(until([&] { return abandoned == 1; }));
    door.open();
    CHECK(stuck.released_for(LONG));
    CHECK(cancelled == 1 && expired == 1 && abandoned == 1);
}

TEST(p06_a_refused_callable_comes_back) {
    const duly::pool pool(small().capacity(1).overflow(duly::overflow::reject));
    gate door;
    std::atomic<int> gone{0}, ran{0};
    auto running = pool.submit([&] { door.pass(); });
    door.await_entered();
    auto queued = pool.submit([] {});
    duly::callback<void> work([&, count = drops(gone)] { ran++; });
    std::error_code code;
    CHECK(!pool.submit({}, work, code) && code == duly::status::queue_full);
    CHECK(code == std::errc::resource_unavailable_try_again);
    CHECK_THROWS(duly::error, pool.submit({}, work), seen.code() == duly::status::queue_full);
    CHECK(work && gone == 0 && ran == 0);
    door.open();
    queued.get();
    CHECK(until([&] { return pool.stats().queued == 0; }));
    auto accepted = pool.submit({}, work);
    CHECK(!work);
    accepted.get();
    CHECK(accepted.released_for(LONG) && gone == 1 && ran == 1);
    // Not kept: gone with the refusal.
    (void)pool.shutdown();
    CHECK_THROWS(duly::error, pool.submit([count = drops(gone)] {}), seen.code() == duly::status::shut_down);
    CHECK(gone == 2);
}

TEST(p06_a_value_nobody_took_is_destroyed_with_the_last_handle) {
    const duly::pool pool(small());
    std::atomic<int> gone{0};
    {
        auto task = pool.submit([&] { return drops(gone); });
        CHECK(task.wait() == duly::outcome::succeeded && task.released_for(LONG));
        CHECK(gone == 0);
    }
    // The worker that has woken the wait may hold it a moment longer.
    CHECK(until([&] { return gone == 1; }));
    {
        auto task = pool.submit([&] { return drops(gone); });
        const auto taken = task.get();
        CHECK(gone == 1);
    }
    CHECK(gone == 2);
    end_pool(pool);
}

TEST(p06_the_value_of_a_late_callback_is_destroyed) {
    const duly::pool pool(small());
    gate door;
    std::atomic<int> gone{0};
    auto task = pool.submit([&] {
        door.pass();
        return drops(gone);
    });
    door.await_entered();
    CHECK(task.cancel());
    door.open();
    CHECK(until([&] { return gone == 1; }));
    CHECK_THROWS(duly::cancelled, task.get(), true);
    end_pool(pool);
    CHECK(gone == 1);
}

TEST(p06_an_exception_goes_with_the_last_who_holds_it) {
    struct planted {
        std::shared_ptr<int> held;
    };
    const duly::pool pool(small());
    auto held = std::make_shared<int>(1);
    std::exception_ptr kept;
    {
        auto task = pool.submit([held] { throw planted{held}; });
        CHECK(task.wait() == duly::outcome::failed && task.released_for(LONG));
        kept = task.exception();
        CHECK(kept && held.use_count() == 2);
    }
    CHECK(held.use_count() == 2);
    kept = nullptr;
    CHECK(until([&] { return held.use_count() == 1; }));
    end_pool(pool);
}

TEST(p05_memory_is_given_back_by_a_hundred_thousand_tasks) {
    const duly::pool pool(small(2));
    std::atomic<int> gone{0};
    constexpr int count = 100000;
    for (int i = 0; i < count; i++) (void)pool.submit([count = drops(gone)] {});
    end_pool(pool);
    CHECK(until([&] { return gone == count; }));
}

namespace {
thread_local int request = 0;
std::atomic<int> captured_ones{0}, inside{0};

// What a request carries to its tasks: counted, and null for request 0.
struct carried {
    int number;
    explicit carried(int of) : number(of) { captured_ones++; }
    carried(const carried &) = delete;
    ~carried() { captured_ones--; }
};

// While it lives, the thread works for a request.
struct working_for {
    int before;
    explicit working_for(int number) : before(std::exchange(request, number)) { inside++; }
    working_for(const working_for &) = delete;
    ~working_for() {
        request = before;
        inside--;
    }
};

duly::pool_options carrying() {
    return small().capacity(1).carry([] { return request == 0 ? nullptr : std::make_unique<carried>(request); },
                                     [](std::unique_ptr<carried> &of) { return working_for(of->number); });
}
} // namespace

TEST(p06_context_crosses_submit_and_is_released_once) {
    const duly::pool pool(carrying());
    request = 42;
    CHECK(pool.submit([] { return request; }).get() == 42 && request == 42);
    CHECK(until([] { return captured_ones == 0; }));
    CHECK_THROWS(std::runtime_error, pool.submit([] { throw std::runtime_error("planted"); }).get(), true);
    request = 0;
    // Nothing to carry, and nothing is left of what was.
    CHECK(pool.submit([] { return request; }).get() == 0);
    CHECK(until([] { return captured_ones == 0 && inside == 0; }));
    // What never runs goes as well: queued and cancelled, and refused.
    gate door;
    request = 7;
    auto stuck = pool.submit([&] { door.pass(); });
    door.await_entered();
    CHECK(inside == 1 && captured_ones == 1);
    auto queued = pool.submit([] {});
    std::error_code code;
    CHECK(!pool.try_submit({}, [] {}, code) && code == duly::status::queue_full);
    CHECK(captured_ones == 2 && queued.cancel() && queued.released_for(LONG));
    CHECK(until([] { return captured_ones == 1; }));
    door.open();
    stuck.get();
    CHECK(until([] { return captured_ones == 0 && inside == 0; }));
    end_pool(pool);
    request = 0;
}

TEST(p06_context_may_be_entered_without_a_trace) {
    std::atomic<int> entered{0}, gone{0};
    {
        auto options = small();
        options.carry([] { return 5; }, [&, count = drops(gone)](int &of) { entered += of; });
        const duly::pool pool(options);
        pool.submit([] {}).get();
        pool.submit([] {}).get();
        end_pool(pool);
        CHECK(entered == 10);
    }
    CHECK(until([&] { return gone == 1; }));
}
