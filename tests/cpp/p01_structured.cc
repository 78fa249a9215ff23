// P1, P4, P5, P6, P7: streams, single flight, and submits that wait for room without a thread.
#include <future>
#include <list>
#include <memory>
#include <set>
#include <vector>

#include "check.hpp"

namespace {
// A source that counts to `last`, and how far it is.
auto counting(std::atomic<int> &pulled, int last) {
    return [&pulled, last]() -> std::optional<int> {
        if (pulled == last) return std::nullopt;
        return pulled++;
    };
}
} // namespace

TEST(p01_a_stream_answers_in_the_order_of_its_items) {
    const duly::pool pool(small(2));
    std::atomic<int> gone{0};
    {
        std::vector<std::unique_ptr<int>> items;
        for (int i = 0; i < 50; i++) items.push_back(std::make_unique<int>(i));
        auto squares = duly::make_stream(pool, duly::stream_options().window(4), duly::each_of(std::move(items)),
                                         [count = drops(gone)](std::unique_ptr<int> of) { return std::make_unique<int>(*of * *of); });
        static_assert(std::is_same_v<decltype(squares), duly::stream<std::unique_ptr<int>>>);
        int at = 0;
        for (auto &answer : squares) {
            CHECK(*answer.get() == at * at);
            at++;
        }
        CHECK(at == 50 && !squares.next());
    }
    CHECK(until([&] { return gone == 1; }));
    end_pool(pool);
}

TEST(p01_a_stream_without_order_answers_as_tasks_end) {
    const duly::pool pool(small(2));
    gate door;
    const duly::stream<int> all(pool, duly::stream_options().window(2).unordered(), duly::each_of(std::list<int>{0, 1, 2}),
                                [&](int item) {
                                    if (item == 0) door.pass();
                                    return item;
                                });
    CHECK(all.next().get() == 1);
    CHECK(all.next().get() == 2);
    CHECK(!all.next_for(10ms));
    door.open();
    CHECK(all.next().get() == 0 && !all.next());
    end_pool(pool);
}

TEST(p05_a_stream_pulls_no_more_than_its_window) {
    const duly::pool pool(small());
    std::atomic<int> pulled{0};
    gate door;
    duly::stream<void> endless(pool, duly::stream_options().window(3), counting(pulled, -1), [&](int) { door.pass(); });
    CHECK(pulled == 0 && !endless.next_for(10ms) && pulled == 3);
    door.open();
    endless.next().get();
    CHECK(pulled <= 4);
    auto left = endless.next();
    endless = {};
    left.get();
    end_pool(pool);
}

TEST(p07_what_an_item_throws_is_its_answer_and_what_the_source_throws_is_the_callers) {
    const duly::pool pool(small(2));
    std::atomic<int> at{0};
    const auto source = [&]() -> std::optional<int> {
        if (at == 3) throw std::out_of_range("no such item");
        return at++;
    };
    const duly::stream<int> all(pool, {}, source, [](int item, duly::context &here) {
        CHECK(!here.is_cancelled());
        if (item == 1) throw std::logic_error("planted");
        return item;
    });
    CHECK(all.next().get() == 0);
    auto bad = all.next();
    CHECK(bad.outcome() == duly::outcome::failed);
    CHECK_TEXT(bad.message(), "planted");
    CHECK_THROWS(std::logic_error, bad.get(), std::string(seen.what()) == "planted");
    CHECK(all.next().get() == 2);
    CHECK_THROWS(std::out_of_range, all.next(), std::string(seen.what()) == "no such item");
    // Once; then it has ended like any other.
    CHECK(!all.next());
    end_pool(pool);
}

TEST(p02_the_items_of_a_stream_have_options_and_a_consumer_that_leaves_ends_them) {
    const duly::pool pool(small(2));
    std::atomic<int> left{0};
    duly::stream_options options;
    options.window(2).task(duly::task_options().timeout(30ms));
    const auto polite = [&](int, duly::context &here) {
        while (!here.is_cancelled()) std::this_thread::sleep_for(1ms);
        left++;
    };
    std::atomic<int> pulled{0};
    duly::stream<void> slow(pool, options, counting(pulled, -1), polite);
    CHECK_THROWS(duly::deadline_exceeded, slow.next().get(), true);
    duly::stream<void> without(pool, duly::stream_options().window(1), counting(pulled, -1), polite);
    slow = {};
    CHECK(!without.next_for(20ms));
    without = {};
    end_pool(pool);
    CHECK(pool.stats().cancelled >= 1);
}

TEST(p16_a_stream_that_cannot_be_meant_is_refused) {
    const duly::pool pool(small());
    std::error_code code;
    const auto none = duly::each_of(std::vector<int>());
    const auto same = [](int item) { return item; };
    CHECK(!duly::stream<int>::make(pool, duly::stream_options().window(0), none, same, code) && code == duly::status::invalid_argument);
    CHECK(!duly::stream<int>::make(pool, {}, std::function<std::optional<int>()>(), same, code));
    CHECK(code == duly::status::invalid_argument);
    CHECK(!duly::stream<int>::make(duly::pool(nullptr), {}, none, same, code) && code == duly::status::null_argument);
    CHECK(!duly::stream<int>().next_for(0s, code) && code == duly::status::null_argument);
    CHECK_THROWS(duly::error, duly::stream<int>(pool, duly::stream_options().task(duly::task_options().timeout(-1s)), none, same),
                 std::strstr(seen.what(), "timeout"));
    end_pool(pool);
    // A refusal is the answer of one item.
    const duly::stream<int> late(pool, {}, duly::each_of(std::vector<int>{1}), same);
    CHECK(!late.next_for(LONG, code) && code == duly::status::shut_down);
    const auto end = late.next_for(LONG, code);
    CHECK(end && !*end && !code);
}

TEST(p01_callers_of_a_key_share_one_run_and_one_value) {
    const duly::pool pool(small(2));
    const duly::single_flight<std::unique_ptr<int>> flight(pool);
    std::atomic<int> runs{0}, gone{0};
    gate door;
    duly::flight_answer<std::unique_ptr<int>> answers[3];
    std::thread callers[3];
    for (int i = 0; i < 3; i++)
        callers[i] = std::thread([&, i] {
            answers[i] = flight.run("key", [&, count = drops(gone)] {
                runs++;
                door.pass();
                return std::make_unique<int>(7);
            });
        });
    CHECK(until([&] { return flight.callers() == 3; }) && flight.keys() == 1);
    door.open();
    for (auto &caller : callers) caller.join();
    CHECK(runs == 1 && flight.keys() == 0 && flight.callers() == 0);
    CHECK(*answers[0].get() == 7 && &answers[0].get() == &answers[1].get() && answers[2].value() == &answers[0].get());
    CHECK(until([&] { return gone == 3; }));
    // Of the next one nothing is kept.
    CHECK(*flight.run("key", [] { return std::make_unique<int>(8); }).get() == 8);
    end_pool(pool);
}

TEST(p06_the_value_of_a_flight_goes_with_its_last_answer) {
    const duly::pool pool(small());
    const duly::single_flight<drops> flight(pool);
    std::atomic<int> gone{0};
    {
        const auto first = flight.run("key", [&] { return drops(gone); });
        {
            const auto second = first;
            CHECK(second.value() == first.value() && gone == 0);
        }
        CHECK(gone == 0);
    }
    CHECK(gone == 1);
    end_pool(pool);
}

TEST(p07_what_a_run_throws_reaches_all_its_callers) {
    const duly::pool pool(small(2));
    const duly::single_flight<int> flight(pool);
    gate door;
    const auto run = [&]() -> int {
        door.pass();
        throw std::logic_error("planted");
    };
    auto other = std::async(std::launch::async, [&] { return flight.run("key", run); });
    door.await_entered();
    auto mine = std::async(std::launch::async, [&] { return flight.run("key", run); });
    CHECK(until([&] { return flight.callers() == 2; }));
    door.open();
    const auto one = other.get(), two = mine.get();
    for (const auto *each : {&one, &two}) {
        CHECK(!each->value());
        CHECK_THROWS(std::logic_error, each->get(), std::string(seen.what()) == "planted");
    }
    CHECK(one.exception() == two.exception());
    end_pool(pool);
}

TEST(p04_a_caller_of_a_flight_leaves_by_its_own_timeout) {
    const duly::pool pool(small());
    const duly::single_flight<void> flight(pool, duly::single_flight_options().handovers(0));
    const auto polite = [](duly::context &here) {
        while (!here.is_cancelled()) std::this_thread::sleep_for(1ms);
    };
    CHECK_THROWS(duly::deadline_exceeded, flight.run("key", duly::task_options().timeout(20ms), polite).get(), true);
    CHECK(until([&] { return flight.keys() == 0; }));
    std::error_code code;
    // Options that are not a caller's own.
    CHECK(!flight.run("key", duly::task_options().label("not mine"), polite, code) && code == duly::status::invalid_argument);
    duly::callback<void> kept(polite);
    end_pool(pool);
    CHECK(!flight.run("key", {}, kept, code) && code == duly::status::shut_down && kept);
}

TEST(p04_a_submit_waits_for_room_without_a_thread) {
    const duly::pool pool(small().capacity(1));
    gate door;
    auto running = pool.submit([&] { door.pass(); });
    door.await_entered();
    auto queued = pool.submit([] { return 1; });
    std::promise<int> came;
    std::atomic<int> told{0};
    const auto here = std::this_thread::get_id();
    pool.submit_async({}, [] { return 2; }, [&](duly::task<int> task, std::error_code code) {
        CHECK(!code && task && std::this_thread::get_id() != here);
        told++;
        task.on_complete([&](duly::outcome how) { came.set_value(how == duly::outcome::succeeded ? 2 : 0); });
    });
    CHECK(told == 0 && pool.stats().blocked_producers == 1);
    CHECK(queued.cancel());
    CHECK(until([&] { return told == 1; }));
    door.open();
    CHECK(came.get_future().get() == 2);
    // With room it is told here and now.
    running.get();
    CHECK(until([&] { return pool.stats().queued == 0; }));
    pool.submit_async({}, [] {}, [&, here](duly::task<void> task, std::error_code code) {
        CHECK(!code && std::this_thread::get_id() == here);
        task.get();
        told++;
    });
    CHECK(told == 2);
    end_pool(pool);
}

TEST(p04_a_submit_in_line_ends_by_token_time_and_close) {
    const duly::pool pool(small().capacity(1).max_blocked_producers(4));
    gate door;
    std::atomic<int> gone{0};
    auto running = pool.submit([&] { door.pass(); });
    door.await_entered();
    auto queued = pool.submit([] {});
    const duly::token leaves;
    std::promise<std::error_code> answers[4];
    const duly::task_options options[] = {duly::task_options().token(leaves), duly::task_options().submit_timeout(30ms),
                                          duly::task_options().timeout(30ms), duly::task_options()};
    for (int i = 0; i < 4; i++)
        pool.submit_async(options[i], [count = drops(gone)] {}, [&answer = answers[i]](duly::task<void> task, std::error_code code) {
            CHECK(!task);
            answer.set_value(code);
        });
    CHECK(answers[1].get_future().get() == duly::status::submit_timed_out);
    CHECK(answers[2].get_future().get() == duly::status::deadline_exceeded);
    leaves.cancel();
    CHECK(answers[0].get_future().get() == duly::status::cancelled);
    CHECK(until([&] { return gone == 3; }));
    pool.close();
    CHECK(answers[3].get_future().get() == duly::status::shut_down);
    CHECK(until([&] { return gone == 4; }));
    door.open();
    end_pool(pool);
}

TEST(p06_a_callable_refused_in_line_comes_back) {
    const duly::pool pool(small().capacity(1));
    gate door;
    auto running = pool.submit([&] { door.pass(); });
    door.await_entered();
    auto queued = pool.submit([] {});
    std::atomic<int> gone{0};
    duly::callback<int> kept([count = drops(gone)] { return 7; });
    std::promise<void> over;
    pool.submit_async(duly::task_options().submit_timeout(20ms), kept, [&](duly::task<int> task, std::error_code code) {
        CHECK(!task && code == duly::status::submit_timed_out);
        over.set_value();
    });
    over.get_future().get();
    CHECK(kept && gone == 0);
    door.open();
    running.get();
    CHECK(pool.submit({}, kept).get() == 7 && !kept);
    CHECK(until([&] { return gone == 1; }));
    // Refused at once: an option that cannot be meant, no callable, no pool.
    std::error_code seen;
    const auto note = [&](const duly::any_task &, std::error_code code) { seen = code; };
    pool.submit_async(duly::task_options().timeout(-1s), [] {}, note);
    CHECK(seen == duly::status::invalid_argument);
    pool.submit_async({}, static_cast<void (*)()>(nullptr), note);
    CHECK(seen == duly::status::invalid_argument);
    duly::pool(nullptr).submit_async({}, [] {}, note);
    CHECK(seen == duly::status::null_argument);
    end_pool(pool);
}

TEST(p04_a_run_tells_its_answer_once) {
    const duly::pool pool(small(2));
    const auto answered = [&](const duly::task_options &options, auto callable) {
        std::promise<std::string> answer;
        const auto caller = pool.run(options, callable, [&](duly::task<int> task, std::error_code code) {
            if (code) return answer.set_value(duly::name(static_cast<duly::status>(code.value())));
            answer.set_value(duly::name(*task.outcome()) + (task.get(code) ? std::string(" 7") : std::string()));
        });
        return answer.get_future().get();
    };
    CHECK_TEXT(answered({}, [] { return 7; }), "succeeded 7");
    CHECK_TEXT(answered({}, []() -> int { throw std::logic_error("planted"); }), "failed");
    const duly::token gone;
    gone.cancel();
    CHECK_TEXT(answered(duly::task_options().token(gone), [] { return 7; }), "cancelled");
    CHECK_TEXT(answered(duly::task_options().timeout(-1s), [] { return 7; }), "invalid_argument");
    end_pool(pool);
    CHECK_TEXT(answered({}, [] { return 7; }), "shut_down");
}

TEST(p04_a_run_whose_caller_leaves_is_cancelled_in_line_queued_and_running) {
    const duly::pool pool(small().capacity(1).max_blocked_producers(2));
    std::atomic<int> started{0}, ended{0}, gone{0}, told{0};
    const auto polite = [&](duly::context &here) {
        started++;
        while (!here.is_cancelled()) std::this_thread::sleep_for(1ms);
        ended++;
    };
    const auto never = [&](duly::task<void>, std::error_code) { told++; };
    auto runs = pool.run({}, polite, never);
    CHECK(until([&] { return started == 1; }));
    auto queued = pool.run({}, [count = drops(gone)] {}, never);
    auto in_line = pool.run({}, [count = drops(gone)] {}, never);
    CHECK(pool.stats().queued == 1 && pool.stats().blocked_producers == 1);
    in_line.leave();
    CHECK(until([&] { return pool.stats().blocked_producers == 0 && gone == 1; }));
    queued = {};
    CHECK(until([&] { return pool.stats().cancelled == 1 && gone == 2; }));
    { const auto ends_here = std::move(runs); }
    CHECK(until([&] { return ended == 1 && pool.stats().cancelled == 2; }));
    end_pool(pool);
    CHECK(told == 0 && started == 1);
}

TEST(p02_a_run_inside_a_callback_inherits_its_token) {
    const duly::pool pool(small(2));
    std::promise<duly::outcome> inner;
    const std::shared_future<duly::outcome> told = inner.get_future().share();
    auto outer = pool.submit([&, told](duly::context &here) {
        CHECK(!duly::token::current().is_cancelled());
        const auto caller = pool.run({}, [](duly::context &own) {
            while (!own.is_cancelled()) std::this_thread::sleep_for(1ms);
        }, [&](const duly::any_task &task, std::error_code) { inner.set_value(*task.outcome()); });
        while (!here.is_cancelled()) std::this_thread::sleep_for(1ms);
        CHECK(duly::token::current().is_cancelled());
        // A caller that has left is told nothing, so it stays until it was.
        CHECK(told.wait_for(LONG) == std::future_status::ready);
    });
    CHECK(until([&] { return pool.stats().running == 2; }));
    CHECK(outer.cancel());
    CHECK(told.wait_for(LONG) == std::future_status::ready && told.get() == duly::outcome::cancelled);
    CHECK(outer.released_for(LONG) && !duly::token::current().is_cancelled());
    CHECK(pool.stats().cancelled == 2);
    end_pool(pool);
}

#if DULY_HPP_COROUTINES
namespace {
struct detached {
    struct promise_type {
        std::promise<int> answer;
        detached get_return_object() { return {answer.get_future()}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_value(int value) { answer.set_value(value); }
        void unhandled_exception() { answer.set_exception(std::current_exception()); }
    };
    std::future<int> answer;
};

detached each_in_turn(duly::pool pool, int count) {
    int sum = 0;
    for (int i = 0; i < count; i++) {
        duly::task<int> task = co_await pool.submit_async([i] { return i; });
        sum += co_await task;
    }
    co_return sum;
}

detached refused(duly::pool pool) {
    co_await pool.submit_async(duly::task_options().label("late").submit_timeout(20ms), [] {});
    co_return 0;
}
} // namespace

TEST(p04_coroutines_wait_for_room_without_a_thread) {
    const duly::pool pool(small().capacity(1).max_blocked_producers(100));
    gate door;
    auto running = pool.submit([&] { door.pass(); });
    door.await_entered();
    auto queued = pool.submit([] {});
    std::vector<std::future<int>> sums;
    for (int i = 0; i < 50; i++) sums.push_back(each_in_turn(pool, 20).answer);
    CHECK(pool.stats().blocked_producers == 50);
    CHECK_THROWS(duly::error, refused(pool).answer.get(),
                 seen.code() == duly::status::submit_timed_out && std::strstr(seen.what(), "late"));
    door.open();
    for (auto &sum : sums) CHECK(sum.wait_for(LONG) == std::future_status::ready && sum.get() == 190);
    end_pool(pool);
}

namespace {
detached sum_of_runs(duly::pool pool, int count) {
    int sum = 0;
    for (int i = 0; i < count; i++) sum += co_await pool.run([i] { return i; });
    co_return sum;
}

// One whose owner destroys it.
struct owned {
    struct promise_type {
        owned get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_void() noexcept {}
        void unhandled_exception() noexcept { std::terminate(); }
    };
    std::coroutine_handle<promise_type> handle;
};

template <class F> owned waits_for(duly::pool pool, F polite, std::atomic<int> &gone) {
    const drops leaves(gone);
    co_await pool.run(duly::task_options().label("left"), polite);
    not_so(__FILE__, __LINE__, "a coroutine that was destroyed does not go on");
}
} // namespace

TEST(p01_a_coroutine_runs_and_has_its_answer) {
    const duly::pool pool(small(2));
    CHECK(sum_of_runs(pool, 3000).answer.get() == 3000 * 2999 / 2);
    CHECK_THROWS(std::logic_error,
                 [](duly::pool where) -> detached {
                     co_return co_await where.run([]() -> int { throw std::logic_error("planted"); });
                 }(pool).answer.get(),
                 std::string(seen.what()) == "planted");
    end_pool(pool);
    CHECK_THROWS(duly::error, sum_of_runs(pool, 1).answer.get(), seen.code() == duly::status::shut_down);
}

TEST(p04_a_coroutine_that_is_destroyed_while_it_waits_has_left) {
    const duly::pool pool(small());
    std::atomic<int> started{0}, ended{0}, gone{0};
    const auto polite = [&](duly::context &here) {
        started++;
        while (!here.is_cancelled()) std::this_thread::sleep_for(1ms);
        ended++;
    };
    const auto one = waits_for(pool, polite, gone);
    CHECK(until([&] { return started == 1; }));
    one.handle.destroy();
    CHECK(gone == 1 && until([&] { return ended == 1 && pool.stats().cancelled == 1; }));
    end_pool(pool);
}
#endif
