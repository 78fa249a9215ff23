// P7: an exception is an outcome, and reaches who waits as it was thrown; what is no exception aborts with a message.
#include <pthread.h>

#include <stdexcept>

#include "check.hpp"

namespace {
struct own : std::runtime_error {
    int number;
    explicit own(int value) : std::runtime_error("planted"), number(value) {}
};
} // namespace

TEST(p07_an_exception_reaches_who_waits_as_it_was_thrown) {
    const duly::pool pool(small());
    auto task = pool.submit([]() -> int { throw own(7); });
    CHECK_THROWS(own, task.get(), seen.number == 7);
    // As often as somebody asks.
    CHECK_THROWS(own, task.get(), seen.number == 7);
    CHECK(task.outcome() == duly::outcome::failed && task.code() == 1);
    CHECK_TEXT(task.message(), "planted");
    std::error_code code;
    CHECK(!task.get(code) && code == duly::outcome::failed);
    CHECK_TEXT(code.message(), "the task ended as failed");
    auto odd = pool.submit([] { throw 5; });
    CHECK_THROWS(int, odd.get(), seen == 5);
    CHECK_TEXT(odd.message(), "an exception that is no std::exception");
    // The worker has survived.
    CHECK(pool.submit([] { return 1; }).get() == 1);
    end_pool(pool);
}

TEST(p07_a_failure_can_have_a_code) {
    const duly::pool pool(small());
    auto thrown = pool.submit([] { throw duly::failed(404, "not found"); });
    CHECK_THROWS(duly::failed, thrown.get(), seen.code() == 404 && std::string(seen.what()) == "not found");
    CHECK(thrown.code() == 404);
    auto said = pool.submit(duly::task_options().label("page"), [](duly::context &here) {
        here.fail(405, "not allowed");
        return 1;
    });
    CHECK_THROWS(duly::failed, said.get(), seen.code() == 405 && std::string(seen.what()) == "task \"page\" failed: not allowed");
    CHECK(said.exception() == nullptr);
    auto zero = pool.submit([](duly::context &here) { here.fail(0, ""); });
    CHECK(zero.wait() == duly::outcome::failed && zero.code() == 1);
    end_pool(pool);
}

TEST(p07_an_exception_of_a_late_callback_changes_nothing) {
    const duly::pool pool(small());
    gate door;
    auto task = pool.submit([&] {
        door.pass();
        throw own(1);
    });
    door.await_entered();
    CHECK(task.cancel());
    door.open();
    CHECK(task.released_for(LONG));
    CHECK_THROWS(duly::cancelled, task.get(), true);
    CHECK(task.exception() == nullptr);
    end_pool(pool);
}

CHILD(leaves_by_pthread_exit) {
    const duly::pool pool(small());
    pool.submit([] { pthread_exit(nullptr); }).get();
}

CHILD(throws_in_a_completion_callback) {
    const duly::pool pool(small());
    auto task = pool.submit([] {});
    task.on_complete([] { throw own(1); });
    std::this_thread::sleep_for(LONG);
}

CHILD(throws_in_a_cancel_hook) {
    const duly::pool pool(small());
    gate door;
    auto task = pool.submit([&](duly::context &here) {
        here.on_cancel([] { throw own(1); });
        door.pass();
    });
    door.await_entered();
    (void)task.cancel();
    std::this_thread::sleep_for(LONG);
}

CHILD(throws_in_a_hook) {
    const duly::pool pool(small().hook([](const duly::event &) { throw own(1); }));
    std::this_thread::sleep_for(LONG);
}

CHILD(throws_in_the_log) {
    duly::set_log([](duly::log_level, std::string_view) { throw own(1); });
    const duly::pool pool(small());
    (void)pool.submit([] { throw own(2); });
    std::this_thread::sleep_for(LONG);
}

CHILD(throws_in_capture) {
    const duly::pool pool(small().carry([]() -> int { throw own(1); }, [](int) {}));
    (void)pool.submit([] {});
}

CHILD(throws_in_enter) {
    const duly::pool pool(small().carry([] { return 1; }, [](int) { throw own(1); }));
    pool.submit([] {}).get();
}

CHILD(throws_when_told_of_a_submit) {
    const duly::pool pool(small().capacity(1));
    gate door;
    auto running = pool.submit([&] { door.pass(); });
    door.await_entered();
    auto queued = pool.submit([] {});
    pool.submit_async({}, [] {}, [](duly::task<void>, std::error_code) { throw own(1); });
    door.open();
    std::this_thread::sleep_for(LONG);
}

CHILD(source_of_a_stream_ends_its_thread) {
    const duly::pool pool(small());
    const duly::stream<int> all(pool, {}, []() -> std::optional<int> { pthread_exit(nullptr); }, [](int item) { return item; });
    (void)all.next();
}

CHILD(throws_in_a_destructor) {
    struct bad {
        std::shared_ptr<int> held = std::make_shared<int>(1);
        bad() = default;
        bad(bad &&) = default;
        ~bad() noexcept(false) {
            if (held) throw own(1);
        }
    };
    const duly::pool pool(small());
    pool.submit([planted = bad()] {}).get();
    std::this_thread::sleep_for(LONG);
}

CHILD(aborts) {
    const duly::pool pool(small());
    pool.submit([] { std::abort(); }).get();
}

TEST(p07_what_is_no_exception_aborts_with_a_message) {
    CHECK(run_child("leaves_by_pthread_exit").aborted_with("the run function was left by"));
    CHECK(run_child("source_of_a_stream_ends_its_thread").aborted_with("the next function was left by"));
    CHECK(run_child("aborts").aborted_with(""));
}

TEST(p07_an_exception_out_of_what_is_told_or_carries_aborts_with_its_name) {
    CHECK(run_child("throws_in_a_completion_callback").aborted_with("the completion function was left by"));
    CHECK(run_child("throws_in_a_cancel_hook").aborted_with("the on_cancel function was left by"));
    CHECK(run_child("throws_in_a_hook").aborted_with("the hook function was left by"));
    CHECK(run_child("throws_in_the_log").aborted_with("the log function was left by"));
    CHECK(run_child("throws_in_capture").aborted_with("the capture function was left by"));
    CHECK(run_child("throws_in_enter").aborted_with("the enter function was left by"));
    CHECK(run_child("throws_when_told_of_a_submit").aborted_with("the submitted function was left by"));
    CHECK(run_child("throws_in_a_destructor").aborted_with("terminate"));
}
