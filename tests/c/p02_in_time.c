/* P2: the outcome comes in time, never early, whatever the callback does. */
#include "check.h"

/* Deadlines are kept on a coarse clock and never early: they may lie this much behind what was asked. */
#define TICK (10 * MS)

static void p02_answers_at_the_deadline_while_the_callback_sleeps(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    gate door = GATE_INIT;
    uint64_t start;
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    options.timeout_ns = 300 * MS;
    duly_task *task = submit_begun(pool, &options, &start, run_gate, &door, gate_begun);
    CHECK_OUTCOME(task, DULY_DEADLINE_EXCEEDED);
    uint64_t took = now_ns() - start;
    CHECK(took >= options.timeout_ns);
    CHECK(took < options.timeout_ns + LATE);
    CHECK_STATUS(duly_task_wait_released(task, 0), DULY_STATUS_TIMED_OUT);
    gate_open(&door);
    OK(duly_task_wait_released(task, LONG));
    CHECK_OUTCOME(task, DULY_DEADLINE_EXCEEDED);
    duly_task_release(task);
    end_pool(pool);
}

static void p02_a_queued_task_answers_at_its_deadline_and_is_never_started(void) {
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_pool *pool = NULL;
    gate door = GATE_INIT;
    probe seen = {0};
    options.workers = 1;
    options.max_replacements = DULY_NONE;
    OK(duly_pool_new(&options, &pool));
    duly_task *stuck = submit(pool, run_gate, &door, NULL);
    gate_wait_entered(&door, 1);
    uint64_t start = now_ns();
    duly_task *queued = submit_within(pool, 50 * MS, run_probe, &seen, drop_probe);
    CHECK_OUTCOME(queued, DULY_DEADLINE_EXCEEDED);
    CHECK(now_ns() - start >= 50 * MS);
    CHECK(now_ns() - start < 50 * MS + LATE);
    OK(duly_task_wait_released(queued, LONG));
    CHECK(seen.dropped == 1);
    gate_open(&door);
    CHECK_OUTCOME(stuck, DULY_SUCCEEDED);
    duly_task_release(stuck);
    duly_task_release(queued);
    end_pool(pool);
    CHECK(seen.ran == 0);
}

static void p02_the_default_timeout_bounds_every_task_but_one_that_asks_for_ever(void) {
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_pool *pool = NULL;
    gate door = GATE_INIT;
    options.workers = 2;
    options.default_timeout_ns = 50 * MS;
    OK(duly_pool_new(&options, &pool));
    duly_task *bounded = submit(pool, run_gate, &door, NULL);
    duly_task *endless = submit_within(pool, DULY_FOREVER, run_gate, &door, NULL);
    CHECK_OUTCOME(bounded, DULY_DEADLINE_EXCEEDED);
    CHECK_STATUS(duly_task_wait(endless, 100 * MS, NULL), DULY_STATUS_TIMED_OUT);
    gate_open(&door);
    CHECK_OUTCOME(endless, DULY_SUCCEEDED);
    duly_task_release(bounded);
    duly_task_release(endless);
    end_pool(pool);
}

static void p02_a_cancel_answers_at_once_while_the_callback_ignores_it(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    gate door = GATE_INIT;
    duly_task *running = submit(pool, run_gate, &door, NULL);
    duly_task *queued = submit(pool, run_gate, &door, NULL);
    gate_wait_entered(&door, 1);
    uint64_t start = now_ns();
    OK(duly_task_cancel(running));
    OK(duly_task_cancel_with(queued, "the client left"));
    OK(duly_task_outcome(running, NULL));
    OK(duly_task_outcome(queued, NULL));
    CHECK(now_ns() - start < LATE);
    CHECK_OUTCOME(running, DULY_CANCELLED);
    CHECK_OUTCOME(queued, DULY_CANCELLED);
    CHECK_TEXT(duly_task_reason(running), "requested");
    CHECK_TEXT(duly_task_reason(queued), "the client left");
    CHECK_TEXT(duly_task_message(queued), "");
    CHECK_STATUS(duly_task_cancel(running), DULY_STATUS_ENDED);
    CHECK_STATUS(duly_task_cancel_with(queued, "again"), DULY_STATUS_ENDED);
    CHECK_TEXT(duly_task_reason(queued), "the client left");
    gate_open(&door);
    OK(duly_task_wait_released(running, LONG));
    CHECK(door.left == 1);
    duly_task_release(running);
    duly_task_release(queued);
    end_pool(pool);
}

typedef struct {
    uint64_t left;
    atomic_int cancelled;
    atomic_int started;
} view_of_call;

static int32_t run_until_cancelled(void *data, duly_call *call) {
    view_of_call *seen = data;
    bool over = duly_call_is_cancelled(call);
    seen->left = duly_call_time_left(call);
    /* On a busy machine it may be over already. */
    CHECK(!over || seen->left == 0);
    atomic_store(&seen->started, seen->left > 0);
    atomic_store(&seen->cancelled, UNTIL(duly_call_is_cancelled(call)));
    return 0;
}

static int view_begun(void *data) { return ((view_of_call *)data)->started; }

static void p02_the_callback_sees_its_deadline_and_its_cancellation(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    view_of_call with = {0}, without = {0};
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    uint64_t start;
    options.timeout_ns = 400 * MS;
    duly_task *bounded = submit_begun(pool, &options, &start, run_until_cancelled, &with, view_begun);
    CHECK_OUTCOME(bounded, DULY_DEADLINE_EXCEEDED);
    OK(duly_task_wait_released(bounded, LONG));
    CHECK(with.cancelled == 1);
    CHECK(with.left > 0 && with.left <= options.timeout_ns + TICK);
    duly_task *endless = submit(pool, run_until_cancelled, &without, NULL);
    CHECK(UNTIL(without.started));
    OK(duly_task_cancel(endless));
    OK(duly_task_wait_released(endless, LONG));
    CHECK(without.cancelled == 1);
    CHECK(without.left == DULY_FOREVER);
    duly_task_release(bounded);
    duly_task_release(endless);
    end_pool(pool);
}

static int32_t run_remember_left(void *data, duly_call *call) {
    *(uint64_t *)data = duly_call_time_left(call);
    return 0;
}

typedef struct {
    duly_pool *pool;
    uint64_t inherited;
    uint64_t detached;
} nest;

static int32_t run_nest(void *data, duly_call *call) {
    nest *tree = data;
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    (void)call;
    OK(duly_submit(tree->pool, NULL, run_remember_left, &tree->inherited, NULL, NULL));
    options.flags = DULY_TASK_DETACHED;
    OK(duly_submit(tree->pool, &options, run_remember_left, &tree->detached, NULL, NULL));
    return 0;
}

static void p02_a_task_submitted_by_a_callback_inherits_what_is_left_unless_detached(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    nest tree = {pool, 0, 0};
    duly_task *parent = submit_within(pool, LONG, run_nest, &tree, NULL);
    CHECK_OUTCOME(parent, DULY_SUCCEEDED);
    duly_task_release(parent);
    end_pool(pool);
    CHECK(tree.inherited > 0 && tree.inherited <= LONG + TICK);
    CHECK(tree.detached == DULY_FOREVER);
}

static void p02_shutdown_answers_every_task_at_the_drain_deadline(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    gate door = GATE_INIT;
    duly_task *running = submit(pool, run_gate, &door, NULL);
    duly_task *queued = submit(pool, run_gate, &door, NULL);
    duly_report *report = NULL;
    gate_wait_entered(&door, 1);
    uint64_t start = now_ns();
    OK(duly_pool_shutdown(pool, 50 * MS, &report));
    uint64_t took = now_ns() - start;
    CHECK(took >= 50 * MS && took < 50 * MS + 2 * LATE);
    CHECK_OUTCOME(running, DULY_ABANDONED);
    CHECK_OUTCOME(queued, DULY_ABANDONED);
    CHECK(!duly_report_drained(report));
    CHECK(duly_report_elapsed_ns(report) >= 50 * MS && duly_report_elapsed_ns(report) <= took);
    CHECK(duly_report_threads_left(report) == 1);
    duly_report_release(report);
    gate_open(&door);
    OK(duly_task_wait_released(running, LONG));
    duly_task_release(running);
    duly_task_release(queued);
    duly_pool_release(pool);
    CHECK(door.left == 1);
}

MAIN(TEST(p02_answers_at_the_deadline_while_the_callback_sleeps),
     TEST(p02_a_queued_task_answers_at_its_deadline_and_is_never_started),
     TEST(p02_the_default_timeout_bounds_every_task_but_one_that_asks_for_ever),
     TEST(p02_a_cancel_answers_at_once_while_the_callback_ignores_it),
     TEST(p02_the_callback_sees_its_deadline_and_its_cancellation),
     TEST(p02_a_task_submitted_by_a_callback_inherits_what_is_left_unless_detached),
     TEST(p02_shutdown_answers_every_task_at_the_drain_deadline));
