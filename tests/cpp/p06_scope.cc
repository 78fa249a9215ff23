// P6: a task_scope may borrow: its end waits until every callback is gone, up to a limit; then the process ends with a name.
#include <vector>

#include "check.hpp"

TEST(p06_a_scope_ends_when_everything_in_it_is_released) {
    const duly::pool pool(small(2));
    for (int round = 0; round < 20; round++) {
        std::vector<int> squares(500);
        std::atomic<int> gone{0};
        {
            duly::task_scope scope(pool);
            for (std::size_t i = 0; i < squares.size(); i++)
                scope.submit([&squares, i, count = drops(gone)] { squares[i] = static_cast<int>(i * i); });
        }
        CHECK(gone == 500);
        for (std::size_t i = 0; i < squares.size(); i++) CHECK(squares[i] == static_cast<int>(i * i));
    }
    end_pool(pool);
}

TEST(p06_a_scope_waits_for_callbacks_that_have_their_answer) {
    const duly::pool pool(small());
    std::atomic<bool> left{false};
    gate door;
    std::thread opens;
    {
        duly::task_scope scope(pool);
        // On a busy machine it may be over before it has begun.
        for (auto timeout = 20ms; !door.entered(); timeout *= 2) {
            auto task = scope.submit(duly::task_options().timeout(timeout), [&] {
                door.pass();
                left = true;
            });
            CHECK_THROWS(duly::deadline_exceeded, task.get(), true);
            while (!door.entered() && !task.released_for(0s)) std::this_thread::sleep_for(500us);
        }
        opens = std::thread([&] {
            std::this_thread::sleep_for(20ms);
            door.open();
        });
    }
    CHECK(left);
    opens.join();
    end_pool(pool);
}

TEST(p06_a_scope_forgets_only_what_is_released) {
    const duly::pool pool(small(2));
    std::atomic<bool> left{false};
    gate door;
    std::thread opens;
    {
        duly::task_scope scope(pool);
        scope.submit([&] {
            door.pass();
            left = true;
        });
        door.await_entered();
        for (int i = 0; i < 300; i++) scope.submit([] {}).get();
        opens = std::thread([&] {
            std::this_thread::sleep_for(20ms);
            door.open();
        });
    }
    CHECK(left);
    opens.join();
    end_pool(pool);
}

TEST(p06_a_scope_left_by_an_exception_cancels_first) {
    const duly::pool pool(small());
    std::atomic<bool> told{false};
    gate started;
    duly::any_task running, queued;
    try {
        duly::task_scope scope(pool);
        running = scope.submit([&](duly::context &here) {
            started.open();
            while (!here.is_cancelled()) std::this_thread::sleep_for(1ms);
            told = true;
        });
        queued = scope.submit([] {});
        started.pass();
        throw std::runtime_error("planted");
    } catch (const std::runtime_error &) {
    }
    CHECK(told && running.outcome() == duly::outcome::cancelled && queued.outcome() == duly::outcome::cancelled);
    CHECK_TEXT(running.reason(), "the scope was left by an exception");
    end_pool(pool);
}

TEST(p06_tasks_of_a_scope_may_submit_to_it) {
    const duly::pool pool(small(2));
    std::atomic<int> ran{0};
    {
        duly::task_scope scope(pool);
        scope.submit([&] {
            for (int i = 0; i < 100; i++) scope.submit([&] { ran++; });
        });
    }
    CHECK(ran == 100);
    end_pool(pool);
}

TEST(p06_past_its_limit_a_scope_cancels_what_is_queued) {
    const duly::pool pool(small());
    gate door;
    auto outside = pool.submit([&] { door.pass(); });
    door.await_entered();
    duly::any_task queued;
    {
        duly::task_scope scope(pool, 20ms);
        queued = scope.submit([] {});
    }
    CHECK(queued.outcome() == duly::outcome::cancelled);
    CHECK_TEXT(queued.reason(), "its scope ended");
    door.open();
    end_pool(pool);
}

TEST(p02_a_scope_that_ends_is_cancelled_to_its_last_task) {
    const duly::pool pool(small(2));
    std::atomic<bool> ends{false}, told{false};
    gate started;
    const auto begin = std::chrono::steady_clock::now();
    {
        duly::task_scope scope(pool, std::chrono::hours(1));
        scope.submit([&] {
            CHECK(until([&] { return ends.load(); }));
            // By now the end waits for the other one. (If it does not yet, this sees less.)
            std::this_thread::sleep_for(100ms);
            scope.cancel("not wanted any more");
        });
        // The end waits for this one first: it is the last that came.
        auto polite = scope.submit([&](duly::context &here) {
            started.open();
            told = until([&] { return here.is_cancelled(); });
        });
        started.pass();
        struct says {
            std::atomic<bool> &so;
            ~says() { so = true; }
        } const last{ends};
    }
    CHECK(told && std::chrono::steady_clock::now() - begin < LONG);
    end_pool(pool);
}

TEST(p13_a_value_that_a_scope_lets_go_of_may_submit_to_it) {
    // What it does when it is destroyed, unless it was moved from.
    struct resubmits {
        duly::task_scope *to;
        std::atomic<int> *gone;
        resubmits(duly::task_scope *scope, std::atomic<int> *count) : to(scope), gone(count) {}
        resubmits(resubmits &&other) noexcept : to(std::exchange(other.to, nullptr)), gone(other.gone) {}
        ~resubmits() {
            if (!to) return;
            ++*gone;
            to->submit([] {}).get();
        }
    };
    const duly::pool pool(small(2));
    std::atomic<int> gone{0};
    {
        duly::task_scope scope(pool);
        for (int i = 0; i < 300; i++) {
            // Nobody sleeps until its end: so the worker that published it holds nothing of it any more.
            const auto one = scope.submit([&] { return resubmits(&scope, &gone); });
            CHECK(until([&] { return one.outcome().has_value(); }));
        }
        // Some have been let go of meanwhile.
        CHECK(gone > 0);
    }
    CHECK(gone == 300);
    end_pool(pool);
}

TEST(p06_a_scope_gives_a_refusal_and_keeps_nothing_of_it) {
    const duly::pool pool(small());
    (void)pool.shutdown();
    duly::task_scope scope(pool);
    std::error_code code;
    CHECK(!scope.submit({}, [] {}, code) && code == duly::status::shut_down);
    CHECK_THROWS(duly::error, scope.submit([] {}), seen.code() == duly::status::shut_down);
    CHECK_THROWS(duly::error, scope.try_submit([] {}), seen.code() == duly::status::shut_down);
    scope.end();
}

CHILD(borrows_for_too_long) {
    const duly::pool pool(small());
    gate door;
    duly::task_scope scope(pool, 50ms);
    scope.submit(duly::task_options().label("the one that stays"), [&] { door.pass(); });
    door.await_entered();
}

TEST(p06_past_its_limit_a_scope_terminates_and_names_the_task) {
    CHECK(run_child("borrows_for_too_long").aborted_with("task \"the one that stays\" still runs"));
}
