// P2, P5, P16: tokens and queues.
#include <poll.h>

#include <map>

#include "check.hpp"

TEST(p02_a_token_cancels_what_stands_under_it) {
    const duly::pool pool(small());
    const duly::token root;
    const auto child = root.child(), other = duly::token();
    gate door, out;
    auto running = pool.submit(duly::task_options().token(child), [&](duly::context &here) {
        door.open();
        while (!here.is_cancelled()) std::this_thread::sleep_for(1ms);
        // Not before the queued one has been reached, too.
        out.pass();
    });
    door.pass();
    auto queued = pool.submit(duly::task_options().token(child), [] {});
    auto free = pool.submit(duly::task_options().token(other), [] {});
    CHECK(!root.is_cancelled() && root.reason().empty() && !root.wait_for(1ms) && !root.time_left());
    root.cancel("client left");
    out.open();
    CHECK(root.is_cancelled() && child.is_cancelled() && !other.is_cancelled() && child.wait_for(0s));
    CHECK_TEXT(child.reason(), "client left");
    CHECK_THROWS(duly::cancelled, running.get(), seen.reason() == "client left");
    CHECK_THROWS(duly::cancelled, queued.get(), seen.reason() == "client left");
    free.get();
    CHECK_THROWS(duly::error, pool.submit(duly::task_options().token(child), [] {}), seen.code() == duly::status::cancelled);
    end_pool(pool);
}

TEST(p02_a_token_can_have_a_deadline) {
    const duly::token soon(30ms), longer = soon.child(10s), none(nullptr);
    CHECK(longer.time_left() && *longer.time_left() < 1s);
    CHECK(soon.wait_for(LONG) && longer.wait_for(LONG));
    CHECK_TEXT(soon.reason(), "deadline_exceeded");
    CHECK(!none && !none.child() && !none.child(1s) && !none.is_cancelled() && !none.wait_for(0s));
    std::error_code code;
    CHECK(none.fd(code) == -1 && code == duly::status::null_argument);
    CHECK_THROWS(duly::error, none.fd(), seen.code() == duly::status::null_argument);
}

TEST(p04_a_callback_that_polls_is_woken_by_its_token) {
    const duly::pool pool(small());
    std::atomic<int> woken{0};
    std::atomic<bool> began{false};
    auto timeout = 50ms;
    std::chrono::steady_clock::time_point start;
    const auto polls = [&](duly::context &here) {
        began = true;
        const auto own = here.token();
        pollfd one = {own.fd(), POLLIN, 0};
        woken = poll(&one, 1, 20000);
    };
    auto task = submit_begun(pool, {}, timeout, start, polls, [&] { return began.load(); });
    CHECK_THROWS(duly::deadline_exceeded, task.get(), true);
    CHECK(task.released_for(LONG) && woken == 1);
    end_pool(pool);
}

TEST(p05_a_queue_has_its_own_bounds) {
    const duly::pool pool(small(2));
    const auto slow = pool.add_queue(duly::queue_options().name("slow").capacity(1).limit(1).overflow(duly::overflow::reject));
    CHECK_TEXT(slow.name(), "slow");
    CHECK_TEXT(pool.default_queue().name(), "default");
    gate door;
    auto running = pool.submit(duly::task_options().in(slow), [&] { door.pass(); });
    door.await_entered();
    auto queued = pool.submit(duly::task_options().in(slow), [] {});
    CHECK_THROWS(duly::error, pool.submit(duly::task_options().in(slow), [] {}), seen.code() == duly::status::queue_full);
    pool.submit([] {}).get();
    CHECK(slow.stats().queued == 1 && slow.stats().running == 1 && slow.stats().submitted == 2);
    slow.set_limit(duly::unlimited);
    queued.get();
    slow.pause();
    CHECK(slow.stats().paused == 1);
    auto held = pool.submit(duly::task_options().in(slow), [] {});
    CHECK(!held.wait_for(20ms));
    slow.resume();
    held.get();
    door.open();
    end_pool(pool);
}

TEST(p05_a_submit_names_its_own_overflow_policy) {
    using duly::overflow;
    const duly::pool pool(small(1).capacity(1).overflow(overflow::reject));
    gate door;
    auto running = pool.submit([&] { door.pass(); });
    door.await_entered();
    auto queued = pool.submit([] {});
    const auto full = [](overflow value) { return duly::task_options().overflow(value); };
    CHECK_THROWS(duly::error, pool.submit(full(overflow::block).submit_timeout(20ms), [] {}),
                 seen.code() == duly::status::submit_timed_out);
    CHECK_THROWS(duly::error, pool.try_submit(full(overflow::block), [] {}), seen.code() == duly::status::queue_full);
    CHECK_THROWS(duly::error, pool.submit(full(static_cast<overflow>(77)), [] {}),
                 seen.code() == duly::status::invalid_argument);
    CHECK_THROWS(duly::shed, pool.submit(full(overflow::drop_newest), [] {}).get(), true);
    CHECK(pool.submit(full(overflow::caller_runs), [] { return 3; }).get() == 3);
    auto newest = pool.submit(full(overflow::drop_oldest), [] { return 4; });
    CHECK_THROWS(duly::shed, queued.get(), true);
    door.open();
    CHECK(newest.get() == 4);
    end_pool(pool);
}

TEST(p05_tasks_of_one_key_run_one_after_the_other) {
    const duly::pool pool(small(4));
    const auto orders = pool.add_queue(duly::queue_options().key_limit(1));
    gate door;
    auto first = pool.submit(duly::task_options().in(orders).key("a"), [&] { door.pass(); });
    door.await_entered();
    auto second = pool.submit(duly::task_options().in(orders).key("a"), [] {});
    pool.submit(duly::task_options().in(orders).key("b"), [] {}).get();
    CHECK(!second.wait_for(50ms));
    door.open();
    second.get();
    std::atomic<int> inside[3]{}, most{0};
    int order[3]{};
    std::atomic<bool> sorted{true};
    {
        duly::task_scope scope(pool);
        for (int i = 0; i < 300; i++)
            scope.submit(duly::task_options().in(orders).key("customer " + std::to_string(i % 3)), [&, i] {
                const int now = ++inside[i % 3];
                if (now > most) most = now;
                if (order[i % 3] > i) sorted = false;
                order[i % 3] = i;
                --inside[i % 3];
            });
    }
    CHECK(most == 1 && sorted && order[0] == 297 && order[2] == 299);
    end_pool(pool);
}

TEST(p02_a_delayed_task_does_not_start_early) {
    const duly::pool pool(small());
    const auto start = std::chrono::steady_clock::now();
    pool.submit(duly::task_options().delay(50ms), [] {}).get();
    CHECK(std::chrono::steady_clock::now() - start >= 50ms);
    end_pool(pool);
}

TEST(p16_limits_that_cannot_be_meant_are_refused) {
    const duly::pool pool(small());
    const auto invalid = [](const duly::error &seen) { return seen.code() == duly::status::invalid_argument; };
    CHECK_THROWS(duly::error, pool.add_queue(duly::queue_options().limit(0)), invalid(seen) && std::strstr(seen.what(), "limit(0)"));
    CHECK_THROWS(duly::error, pool.add_queue(duly::queue_options().capacity(1u << 30)), invalid(seen));
    const auto queue = pool.add_queue(duly::queue_options().name("q"));
    CHECK_THROWS(duly::error, queue.set_weight(0), invalid(seen) && std::strstr(seen.what(), "set_weight(0) of queue \"q\""));
    CHECK_THROWS(duly::error, queue.set_limit(0), invalid(seen));
    CHECK_THROWS(duly::error, queue.set_capacity(0), invalid(seen));
    CHECK_THROWS(duly::error, pool.submit(duly::task_options().delay(-1s), [] {}), invalid(seen));
    const duly::queue none;
    std::error_code code;
    none.set_limit(1, code);
    CHECK(code == duly::status::null_argument && none.name().empty() && none.stats().queued == 0);
    end_pool(pool);
    CHECK_THROWS(duly::error, pool.add_queue({}), seen.code() == duly::status::shut_down);
}
