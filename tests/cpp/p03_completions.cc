// P3, P1: completion queues deliver each task once; groups and waits for several.
#include <poll.h>

#include <set>

#include "check.hpp"

TEST(p03_every_task_comes_to_its_completion_queue_once) {
    const duly::pool pool(small(2));
    const duly::completions ended(100);
    std::set<std::uint64_t> tags;
    for (std::uint64_t i = 0; i < 100; i++)
        (void)pool.submit(duly::task_options().report_to(ended, i), [i] {
            if (i % 2) throw std::runtime_error("odd");
        });
    while (tags.size() < 100) {
        const auto some = ended.take(LONG, 7);
        CHECK(!some.empty() && some.size() <= 7);
        if (some.empty()) break;
        for (const auto &one : some) {
            CHECK(tags.insert(one.tag).second);
            CHECK(one.outcome == (one.tag % 2 ? duly::outcome::failed : duly::outcome::succeeded));
            CHECK(one.task.outcome() == one.outcome);
        }
    }
    CHECK(ended.take(0s).empty() && ended.free_places() == 100);
    end_pool(pool);
}

TEST(p03_its_descriptor_wakes_a_loop_and_its_places_are_bounded) {
    const duly::pool pool(small());
    const duly::completions ended(1);
    gate door;
    auto held = pool.submit(duly::task_options().report_to(ended, 7).timeout(30ms), [&] { door.pass(); });
    CHECK_THROWS(duly::error, pool.submit(duly::task_options().report_to(ended), [] {}), seen.code() == duly::status::queue_full);
    pollfd one = {ended.fd(), POLLIN, 0};
    CHECK(poll(&one, 1, 20000) == 1);
    const auto taken = ended.take(0s);
    CHECK(taken.size() == 1 && taken[0].tag == 7 && taken[0].outcome == duly::outcome::deadline_exceeded);
    CHECK(poll(&one, 1, 0) == 0);
    door.open();
    end_pool(pool);
}

TEST(p01_the_first_failure_of_a_group_cancels_the_rest) {
    const duly::pool pool(small(2));
    const duly::group group(pool, duly::group_options().label("batch"));
    gate started;
    auto polite = group.submit([&](duly::context &here) {
        started.open();
        while (!here.is_cancelled()) std::this_thread::sleep_for(1ms);
    });
    started.pass();
    auto bad = group.submit(duly::task_options().label("bad"), [] { throw std::runtime_error("planted"); });
    const auto result = group.wait();
    CHECK(!result.succeeded() && result.cancelled_by_group() == 1 && result.count(duly::outcome::failed) == 1);
    CHECK(result.errors().size() == 1 && result.errors()[0].label() == "bad" && result.errors()[0].message() == "planted");
    CHECK_THROWS(std::runtime_error, bad.get(), true);
    CHECK_THROWS(duly::cancelled, polite.get(), true);
    CHECK_THROWS(duly::error, group.submit([] {}), seen.code() == duly::status::cancelled);
    end_pool(pool);
}

TEST(p04_a_group_is_waited_for_with_a_limit) {
    const duly::pool pool(small());
    gate door;
    std::error_code code;
    duly::any_task left;
    {
        const duly::group group(pool);
        left = group.submit([&] { door.pass(); });
        CHECK(!group.wait_for(10ms));
        CHECK(!duly::group::make(pool, duly::group_options().limit(0), code) && code == duly::status::invalid_argument);
    }
    // Left alone, it cancels what is under way.
    CHECK(left.wait() == duly::outcome::cancelled);
    door.open();
    end_pool(pool);
}

TEST(p04_waits_for_several_tasks) {
    const duly::pool pool(small(2));
    gate door;
    auto slow = pool.submit([&] { door.pass(); });
    auto quick = pool.submit([] { return 1; });
    CHECK(duly::wait_any({slow, quick}) == 1u);
    CHECK(!duly::wait_any({slow}, 10ms) && !duly::wait_all({slow, quick}, 10ms));
    CHECK_THROWS(duly::error, duly::wait_any({}), seen.code() == duly::status::invalid_argument);
    CHECK_THROWS(duly::error, duly::wait_all({duly::any_task()}), seen.code() == duly::status::null_argument);
    door.open();
    CHECK(duly::wait_all({slow, quick}) && quick.get() == 1);
    end_pool(pool);
}
