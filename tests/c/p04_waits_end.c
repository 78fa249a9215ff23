/* P3 and P4: no answer waits for a reader, and every call that can block comes back. */
#include "check.h"

static void p03_answers_that_nobody_takes_hold_no_worker(void) {
    duly_pool *pool = make_pool(1, 4, DULY_OVERFLOW_DEFAULT);
    duly_task *kept[100];
    for (int i = 0; i < 100; i++)
        kept[i] = submit(pool, run_nothing, NULL, NULL);
    end_pool(pool);
    for (int i = 0; i < 100; i++) {
        CHECK_OUTCOME(kept[i], DULY_SUCCEEDED);
        duly_task_release(kept[i]);
    }
}

static void p04_a_wait_that_times_out_leaves_the_task_alone(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    gate door = GATE_INIT;
    duly_task *task = submit(pool, run_gate, &door, NULL);
    duly_outcome outcome = 0;
    uint64_t start = now_ns();
    CHECK_STATUS(duly_task_wait(task, 30 * MS, &outcome), DULY_STATUS_TIMED_OUT);
    CHECK(now_ns() - start >= 30 * MS);
    CHECK_STATUS(duly_task_wait(task, 0, &outcome), DULY_STATUS_TIMED_OUT);
    CHECK_STATUS(duly_task_wait_released(task, 10 * MS), DULY_STATUS_TIMED_OUT);
    CHECK(outcome == 0);
    gate_open(&door);
    OK(duly_task_wait(task, DULY_FOREVER, &outcome));
    CHECK(outcome == DULY_SUCCEEDED);
    OK(duly_task_wait_released(task, DULY_FOREVER));
    duly_task_release(task);
    end_pool(pool);
}

static void p04_submit_waits_for_room_no_longer_than_asked(void) {
    duly_pool *pool = make_pool(1, 1, DULY_OVERFLOW_BLOCK);
    gate door = GATE_INIT;
    probe seen = {0};
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    duly_task *task = NULL;
    OK(duly_submit(pool, NULL, run_gate, &door, NULL, NULL));
    gate_wait_entered(&door, 1);
    OK(duly_submit(pool, NULL, run_nothing, NULL, NULL, NULL));
    options.submit_timeout_ns = 40 * MS;
    uint64_t start = now_ns();
    CHECK_STATUS(duly_submit(pool, &options, run_probe, &seen, drop_probe, &task), DULY_STATUS_SUBMIT_TIMED_OUT);
    CHECK(now_ns() - start >= 40 * MS);
    options.submit_timeout_ns = 0;
    options.timeout_ns = 40 * MS;
    start = now_ns();
    CHECK_STATUS(duly_submit(pool, &options, run_probe, &seen, drop_probe, &task), DULY_STATUS_DEADLINE_EXCEEDED);
    CHECK(now_ns() - start >= 40 * MS);
    CHECK(task == NULL);
    CHECK(seen.dropped == 0);
    gate_open(&door);
    OK(duly_submit(pool, NULL, run_probe, &seen, drop_probe, NULL));
    end_pool(pool);
    CHECK(seen.ran == 1 && seen.dropped == 1);
}

typedef struct {
    duly_pool *pool;
    probe *seen;
    atomic_int status;
} producer;

static void *produce(void *data) {
    producer *me = data;
    atomic_store(&me->status, duly_submit(me->pool, NULL, run_probe, me->seen, drop_probe, NULL));
    return NULL;
}

static uint64_t blocked_producers(const duly_pool *pool) {
    duly_stats stats = {0};
    OK(duly_pool_stats(pool, &stats, sizeof stats));
    return stats.blocked_producers;
}

static void blocked_producer_ends(int by_shutdown) {
    duly_pool *pool = make_pool(1, 1, DULY_OVERFLOW_BLOCK);
    gate door = GATE_INIT;
    probe seen = {0};
    producer blocked = {pool, &seen, 1};
    pthread_t thread;
    OK(duly_submit(pool, NULL, run_gate, &door, NULL, NULL));
    gate_wait_entered(&door, 1);
    OK(duly_submit(pool, NULL, run_nothing, NULL, NULL, NULL));
    CHECK(pthread_create(&thread, NULL, produce, &blocked) == 0);
    CHECK(UNTIL(blocked_producers(pool) == 1));
    CHECK(blocked.status == 1);
    if (by_shutdown)
        OK(duly_pool_shutdown(pool, 0, NULL));
    else
        OK(duly_pool_close(pool));
    CHECK(UNTIL(blocked.status != 1));
    CHECK_STATUS(blocked.status, DULY_STATUS_SHUT_DOWN);
    pthread_join(thread, NULL);
    CHECK(seen.ran == 0 && seen.dropped == 0);
    CHECK(blocked_producers(pool) == 0);
    gate_open(&door);
    OK(duly_pool_shutdown(pool, LONG, NULL));
    CHECK(UNTIL(door.left == 1));
    duly_pool_release(pool);
}

static void p04_a_shutdown_ends_a_blocked_producer(void) {
    blocked_producer_ends(1);
}

static void p04_a_close_ends_a_blocked_producer(void) {
    blocked_producer_ends(0);
}

static void *wait_long(void *data) {
    duly_outcome outcome = 0;
    OK(duly_task_wait(data, DULY_FOREVER, &outcome));
    CHECK(outcome == DULY_ABANDONED);
    return NULL;
}

static void p04_a_shutdown_ends_a_wait_for_ever(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    gate door = GATE_INIT;
    duly_task *task = submit(pool, run_gate, &door, NULL);
    pthread_t thread;
    gate_wait_entered(&door, 1);
    CHECK(pthread_create(&thread, NULL, wait_long, task) == 0);
    OK(duly_pool_shutdown(pool, 20 * MS, NULL));
    pthread_join(thread, NULL);
    gate_open(&door);
    OK(duly_task_wait_released(task, LONG));
    duly_task_release(task);
    duly_pool_release(pool);
}

MAIN(TEST(p03_answers_that_nobody_takes_hold_no_worker), TEST(p04_a_wait_that_times_out_leaves_the_task_alone),
     TEST(p04_submit_waits_for_room_no_longer_than_asked), TEST(p04_a_shutdown_ends_a_blocked_producer),
     TEST(p04_a_close_ends_a_blocked_producer), TEST(p04_a_shutdown_ends_a_wait_for_ever));
