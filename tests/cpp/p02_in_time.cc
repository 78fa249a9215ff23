// P2, P3, P4: answers come in time whatever callbacks do; a wait that times out is another thing; hooks and stop tokens tell
// a callback.
#include <optional>

#include "check.hpp"

TEST(p02_the_answer_comes_at_the_deadline) {
    const duly::pool pool(small());
    gate door;
    auto timeout = 50ms;
    std::chrono::steady_clock::time_point start;
    auto task = submit_begun(pool, duly::task_options().label("stuck"), timeout, start, [&] { door.pass(); }, [&] { return door.entered(); });
    CHECK_THROWS(duly::deadline_exceeded, task.get(), std::string(seen.what()) == "task \"stuck\" passed its deadline");
    CHECK(std::chrono::steady_clock::now() - start >= timeout);
    CHECK(!task.released_for(0s));
    door.open();
    CHECK(task.released_for(LONG));
    end_pool(pool);
}

TEST(p02_a_cancelled_task_has_its_answer_at_once) {
    const duly::pool pool(small());
    gate door;
    auto task = pool.submit([&] { door.pass(); });
    door.await_entered();
    CHECK(task.cancel("enough"));
    CHECK(!task.cancel());
    CHECK_THROWS(duly::cancelled, task.get(), seen.reason() == "enough");
    std::error_code code;
    CHECK(!task.get(code) && code == duly::outcome::cancelled && code == std::errc::operation_canceled);
    door.open();
    end_pool(pool);
}

TEST(p04_a_wait_that_times_out_is_not_an_outcome) {
    const duly::pool pool(small());
    gate door;
    auto task = pool.submit([&] {
        door.pass();
        return 3;
    });
    CHECK(!task.wait_for(10ms) && !task.get_for(10ms) && !task.outcome());
    std::error_code code = duly::status::panic;
    CHECK(!task.get_for(10ms, code) && !code);
    // Time that has passed already ends a wait at once.
    CHECK(!task.wait_for(-1h) && !task.released_for(-1s));
    door.open();
    CHECK(task.get_for(std::chrono::hours::max()) == 3);
    end_pool(pool);
}

TEST(p04_a_submit_without_room_ends) {
    const duly::pool pool(small().capacity(1));
    gate door;
    auto running = pool.submit([&] { door.pass(); });
    door.await_entered();
    auto queued = pool.submit([] {});
    CHECK_THROWS(duly::error, pool.submit(duly::task_options().submit_timeout(20ms).label("late"), [] {}),
                 seen.code() == duly::status::submit_timed_out && std::strstr(seen.what(), "\"late\""));
    CHECK_THROWS(duly::error, pool.try_submit([] {}), seen.code() == duly::status::queue_full);
    CHECK_THROWS(duly::error, pool.submit(duly::task_options().timeout(20ms), [] {}),
                 seen.code() == duly::status::deadline_exceeded);
    std::thread waits([&] { CHECK_THROWS(duly::error, pool.submit([] {}), seen.code() == duly::status::shut_down); });
    CHECK(until([&] { return pool.stats().blocked_producers == 1; }));
    pool.close();
    waits.join();
    door.open();
    end_pool(pool);
}

TEST(p02_a_callback_sees_why_it_should_stop) {
    const duly::pool pool(small());
    gate entered;
    std::atomic<bool> sound{false}, threw{false};
    std::optional<duly::outcome> cause;
    auto task = pool.submit(duly::task_options().timeout(30s), [&](duly::context &here) {
        const auto left = here.time_left();
        sound = !here.cause() && left && *left > 0s && *left < 31s;
        here.check();
        entered.pass();
        while (!here.is_cancelled()) std::this_thread::sleep_for(1ms);
        cause = here.cause();
        try {
            here.check();
        } catch (const duly::cancelled &) {
            threw = true;
        }
    });
    entered.await_entered();
    entered.open();
    CHECK(task.cancel());
    CHECK(task.released_for(LONG));
    CHECK(sound && threw && cause == duly::outcome::cancelled);
    CHECK(pool.submit([](duly::context &here) { return !here.time_left(); }).get());
    end_pool(pool);
}

TEST(p03_a_hook_wakes_what_the_callback_waits_for) {
    const duly::pool pool(small());
    gate there, door;
    std::atomic<int> gone{0};
    std::atomic<duly::outcome> why{};
    auto task = pool.submit([&](duly::context &here) {
        here.on_cancel([&, count = drops(gone)](duly::outcome outcome) {
            why = outcome;
            door.open();
        });
        there.open();
        door.pass();
    });
    there.pass();
    CHECK(task.cancel());
    CHECK(task.released_for(LONG));
    CHECK(until([&] { return gone == 1; }));
    CHECK(why == duly::outcome::cancelled);
    // One that is not needed goes with its callback.
    std::atomic<int> told{0}, unused{0};
    auto calm = pool.submit([&](duly::context &here) { here.on_cancel([&, count = drops(unused)] { told++; }); });
    calm.get();
    CHECK(calm.released_for(LONG) && unused == 1 && told == 0);
    end_pool(pool);
}

#if DULY_HPP_STOP_TOKEN
TEST(p03_a_stop_token_is_stopped) {
    const duly::pool pool(small());
    gate entered;
    std::atomic<bool> before{true}, after{false};
    auto task = pool.submit([&](std::stop_token stop) {
        std::mutex lock;
        std::condition_variable_any changed;
        std::unique_lock<std::mutex> locked(lock);
        before = stop.stop_requested();
        entered.open();
        changed.wait(locked, stop, [] { return false; });
        after = stop.stop_requested();
    });
    entered.pass();
    CHECK(task.cancel());
    CHECK(task.released_for(LONG) && !before && after);
    auto late = pool.submit(duly::task_options().timeout(30ms), [](std::stop_token stop) {
        std::atomic<bool> stopped{false};
        std::stop_callback told(stop, [&] { stopped = true; });
        while (!stopped) std::this_thread::sleep_for(1ms);
    });
    CHECK_THROWS(duly::deadline_exceeded, late.get(), true);
    CHECK(late.released_for(LONG));
    CHECK(pool.submit([](std::stop_token stop) { return stop.stop_possible() && !stop.stop_requested(); }).get());
    end_pool(pool);
}
#endif
