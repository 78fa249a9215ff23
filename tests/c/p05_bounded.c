/* P5: the queue holds as many tasks as it was given, and each overflow policy does what it says. */
#include "check.h"

/* A pool whose only worker is stuck and whose queue holds one task, in *queued. */
typedef struct {
    duly_pool *pool;
    duly_task *running;
    duly_task *queued;
    gate door;
    probe seen;
} full_pool;

static void fill(full_pool *full, duly_overflow overflow) {
    *full = (full_pool){.door = GATE_INIT};
    full->pool = make_pool(1, 1, overflow);
    full->running = submit(full->pool, run_gate, &full->door, NULL);
    gate_wait_entered(&full->door, 1);
    full->queued = submit(full->pool, run_probe, &full->seen, drop_probe);
}

static void empty(full_pool *full) {
    gate_open(&full->door);
    CHECK_OUTCOME(full->running, DULY_SUCCEEDED);
    duly_task_release(full->running);
    duly_task_release(full->queued);
    end_pool(full->pool);
    CHECK(full->seen.dropped == 1);
}

static uint64_t shed(const duly_pool *pool) {
    duly_stats stats = {0};
    OK(duly_pool_stats(pool, &stats, sizeof stats));
    return stats.shed;
}

static void p05_try_submit_on_a_full_queue_is_queue_full(void) {
    full_pool full;
    probe seen = {0};
    duly_task *task = NULL;
    fill(&full, DULY_OVERFLOW_BLOCK);
    for (int i = 0; i < 10; i++)
        CHECK_STATUS(duly_try_submit(full.pool, NULL, run_probe, &seen, drop_probe, &task), DULY_STATUS_QUEUE_FULL);
    CHECK(task == NULL && seen.dropped == 0);
    empty(&full);
    CHECK(full.seen.ran == 1 && seen.ran == 0);
}

static void p05_a_cancelled_queued_task_gives_back_its_place_while_the_worker_is_stuck(void) {
    full_pool full;
    duly_task *next = NULL;
    fill(&full, DULY_OVERFLOW_BLOCK);
    OK(duly_task_cancel(full.queued));
    OK(duly_task_wait_released(full.queued, LONG));
    CHECK(full.seen.dropped == 1);
    OK(duly_try_submit(full.pool, NULL, run_nothing, NULL, NULL, &next));
    empty(&full);
    CHECK_OUTCOME(next, DULY_SUCCEEDED);
    duly_task_release(next);
    CHECK(full.seen.ran == 0);
}

static void p05_reject_answers_queue_full(void) {
    full_pool full;
    fill(&full, DULY_OVERFLOW_REJECT);
    CHECK_STATUS(duly_submit(full.pool, NULL, run_nothing, NULL, NULL, NULL), DULY_STATUS_QUEUE_FULL);
    empty(&full);
    CHECK(full.seen.ran == 1);
}

static void p05_drop_newest_accepts_a_task_that_is_shed_already(void) {
    full_pool full;
    probe seen = {0};
    fill(&full, DULY_OVERFLOW_DROP_NEWEST);
    duly_task *task = submit(full.pool, run_probe, &seen, drop_probe);
    OK(duly_task_outcome(task, NULL));
    CHECK_OUTCOME(task, DULY_SHED);
    OK(duly_task_wait_released(task, LONG));
    CHECK(seen.ran == 0 && seen.dropped == 1);
    CHECK(shed(full.pool) == 1);
    duly_task_release(task);
    empty(&full);
    CHECK(full.seen.ran == 1);
}

static void p05_drop_oldest_sheds_the_oldest_queued_task(void) {
    full_pool full;
    fill(&full, DULY_OVERFLOW_DROP_OLDEST);
    duly_task *task = submit(full.pool, run_nothing, NULL, NULL);
    CHECK_OUTCOME(full.queued, DULY_SHED);
    OK(duly_task_wait_released(full.queued, LONG));
    CHECK(shed(full.pool) == 1);
    empty(&full);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    duly_task_release(task);
    CHECK(full.seen.ran == 0);
}

static void p05_a_submit_names_its_own_overflow_policy(void) {
    for (duly_overflow of_pool = DULY_OVERFLOW_BLOCK; of_pool <= DULY_OVERFLOW_CALLER_RUNS; of_pool++) {
        duly_task_options options = DULY_TASK_OPTIONS_INIT;
        duly_task *task = NULL;
        full_pool full;
        fill(&full, of_pool);
        options.overflow = DULY_OVERFLOW_REJECT;
        CHECK_STATUS(duly_submit(full.pool, &options, run_nothing, NULL, NULL, NULL), DULY_STATUS_QUEUE_FULL);
        options.overflow = DULY_OVERFLOW_BLOCK;
        CHECK_STATUS(duly_try_submit(full.pool, &options, run_nothing, NULL, NULL, NULL), DULY_STATUS_QUEUE_FULL);
        options.submit_timeout_ns = 1000000;
        CHECK_STATUS(duly_submit(full.pool, &options, run_nothing, NULL, NULL, NULL), DULY_STATUS_SUBMIT_TIMED_OUT);
        options.submit_timeout_ns = 0;
        options.overflow = DULY_OVERFLOW_DROP_NEWEST;
        OK(duly_submit(full.pool, &options, run_nothing, NULL, NULL, &task));
        CHECK_OUTCOME(task, DULY_SHED);
        duly_task_release(task);
        CHECK_STATUS(duly_task_outcome(full.queued, NULL), DULY_STATUS_PENDING);
        options.overflow = DULY_OVERFLOW_DROP_OLDEST;
        OK(duly_try_submit(full.pool, &options, run_nothing, NULL, NULL, &task));
        CHECK_OUTCOME(full.queued, DULY_SHED);
        CHECK(shed(full.pool) == 2);
        empty(&full);
        CHECK_OUTCOME(task, DULY_SUCCEEDED);
        duly_task_release(task);
    }
}

static int32_t run_whoami(void *data, duly_call *call) {
    (void)call;
    *(pthread_t *)data = pthread_self();
    return 0;
}

static void p05_caller_runs_runs_it_on_the_submitting_thread(void) {
    full_pool full;
    pthread_t where;
    memset(&where, 0, sizeof where);
    fill(&full, DULY_OVERFLOW_CALLER_RUNS);
    duly_task *task = submit(full.pool, run_whoami, &where, NULL);
    OK(duly_task_outcome(task, NULL));
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    CHECK(pthread_equal(where, pthread_self()));
    duly_task_release(task);
    empty(&full);
    CHECK(full.seen.ran == 1);
}

MAIN(TEST(p05_try_submit_on_a_full_queue_is_queue_full),
     TEST(p05_a_cancelled_queued_task_gives_back_its_place_while_the_worker_is_stuck),
     TEST(p05_reject_answers_queue_full), TEST(p05_drop_newest_accepts_a_task_that_is_shed_already),
     TEST(p05_drop_oldest_sheds_the_oldest_queued_task), TEST(p05_caller_runs_runs_it_on_the_submitting_thread),
     TEST(p05_a_submit_names_its_own_overflow_policy));
