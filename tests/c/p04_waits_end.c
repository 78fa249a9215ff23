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

/* What a submit in line was told, and its callback's captured data. */
typedef struct {
    probe seen;
    atomic_int told;
    duly_status status;
    duly_task *task;
    pthread_t thread;
} in_line;

static void tell_in_line(void *data, duly_status status, duly_task *task) {
    in_line *me = data;
    me->status = status;
    me->task = task;
    me->thread = pthread_self();
    atomic_fetch_add(&me->told, 1);
}

/* A pool whose worker stands at the gate, with no room. */
static duly_pool *make_full_pool(gate *door, duly_task **queued) {
    duly_pool *pool = NULL;
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    options.workers = 1;
    options.capacity = 1;
    options.max_blocked_producers = 4;
    OK(duly_pool_new(&options, &pool));
    OK(duly_submit(pool, NULL, run_gate, door, NULL, NULL));
    gate_wait_entered(door, 1);
    *queued = submit(pool, run_nothing, NULL, NULL);
    return pool;
}

static duly_status line_up(duly_pool *pool, const duly_task_options *options, in_line *me) {
    duly_task *task = NULL;
    duly_status status = duly_submit_async(pool, options, run_probe, &me->seen, drop_probe, tell_in_line, me, &task);
    CHECK(task == NULL || status == DULY_STATUS_OK);
    if (status == DULY_STATUS_OK)
        me->task = task;
    return status;
}

static void p04_an_async_submit_waits_for_room_and_tells_once(void) {
    gate door = GATE_INIT;
    duly_task *queued = NULL;
    in_line me[3] = {0};
    duly_pool *pool = make_full_pool(&door, &queued);
    for (int i = 0; i < 2; i++)
        CHECK_STATUS(line_up(pool, NULL, &me[i]), DULY_STATUS_PENDING);
    CHECK(blocked_producers(pool) == 2 && me[0].told == 0);
    /* Room for one: the first in line. It is told by none of the threads that made it. */
    OK(duly_task_cancel(queued));
    CHECK(UNTIL(me[0].told == 1));
    CHECK(me[0].status == DULY_STATUS_OK && me[0].task != NULL && !pthread_equal(me[0].thread, pthread_self()));
    CHECK(blocked_producers(pool) == 1 && me[1].told == 0);
    gate_open(&door);
    CHECK(UNTIL(me[1].told == 1));
    CHECK_OUTCOME(me[0].task, DULY_SUCCEEDED);
    CHECK_OUTCOME(me[1].task, DULY_SUCCEEDED);
    /* There is room: nobody has to be told. */
    CHECK(UNTIL(blocked_producers(pool) == 0));
    CHECK_STATUS(line_up(pool, NULL, &me[2]), DULY_STATUS_OK);
    CHECK_OUTCOME(me[2].task, DULY_SUCCEEDED);
    for (int i = 0; i < 3; i++) {
        OK(duly_task_wait_released(me[i].task, LONG));
        CHECK(me[i].seen.ran == 1 && me[i].seen.dropped == 1 && me[i].told == (i < 2));
        duly_task_release(me[i].task);
    }
    duly_task_release(queued);
    end_pool(pool);
}

static void p04_an_async_submit_in_line_has_its_exits(void) {
    enum { UNDER = 3, LAST = UNDER, TOO_MANY, WITHIN, DUE, ALL };
    gate door = GATE_INIT;
    duly_task *queued = NULL;
    in_line me[ALL] = {0};
    int in_line_told[ALL] = {1, 1, 1, 1, 0, 1, 1};
    duly_task_options under = DULY_TASK_OPTIONS_INIT, timed[2] = {under, under};
    duly_token *token = NULL;
    duly_pool *pool = make_full_pool(&door, &queued);
    OK(duly_token_new(&token));
    under.token = token;
    for (int i = 0; i < UNDER; i++)
        CHECK_STATUS(line_up(pool, &under, &me[i]), DULY_STATUS_PENDING);
    CHECK_STATUS(line_up(pool, NULL, &me[LAST]), DULY_STATUS_PENDING);
    /* The line is full. */
    CHECK_STATUS(line_up(pool, NULL, &me[TOO_MANY]), DULY_STATUS_QUEUE_FULL);
    OK(duly_token_cancel(token));
    for (int i = 0; i < UNDER; i++) {
        CHECK(UNTIL(me[i].told == 1));
        CHECK_STATUS(me[i].status, DULY_STATUS_CANCELLED);
    }
    timed[0].submit_timeout_ns = 30 * MS;
    timed[1].timeout_ns = 30 * MS;
    const uint64_t start = now_ns();
    for (int i = 0; i < 2; i++) {
        in_line *one = &me[WITHIN + i];
        duly_status status = line_up(pool, &timed[i], one);
        /* On a busy machine it may be over at once. */
        if (status == DULY_STATUS_PENDING) {
            CHECK(UNTIL(one->told == 1));
        } else {
            one->status = status;
            in_line_told[WITHIN + i] = 0;
        }
        CHECK(now_ns() - start >= 30 * MS);
        CHECK_STATUS(one->status, i == 0 ? DULY_STATUS_SUBMIT_TIMED_OUT : DULY_STATUS_DEADLINE_EXCEEDED);
    }
    CHECK(me[LAST].told == 0);
    OK(duly_pool_close(pool));
    CHECK(UNTIL(me[LAST].told == 1));
    CHECK_STATUS(me[LAST].status, DULY_STATUS_SHUT_DOWN);
    gate_open(&door);
    end_pool(pool);
    /* user_data has stayed the caller's. */
    for (int i = 0; i < ALL; i++)
        CHECK(me[i].told == in_line_told[i] && me[i].task == NULL && me[i].seen.ran == 0 && me[i].seen.dropped == 0);
    duly_token_release(token);
    duly_task_release(queued);
}

static void p16_an_async_submit_refuses_what_cannot_be_meant(void) {
    duly_pool *pool = make_pool(1, 1, DULY_OVERFLOW_CALLER_RUNS);
    in_line me = {0};
    gate door = GATE_INIT;
    CHECK_STATUS(duly_submit_async(NULL, NULL, run_probe, &me.seen, drop_probe, tell_in_line, &me, NULL),
                 DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_submit_async(pool, NULL, NULL, &me.seen, drop_probe, tell_in_line, &me, NULL),
                 DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_submit_async(pool, NULL, run_probe, &me.seen, drop_probe, NULL, NULL, NULL),
                 DULY_STATUS_INVALID_ARGUMENT);
    OK(duly_submit(pool, NULL, run_gate, &door, NULL, NULL));
    gate_wait_entered(&door, 1);
    OK(duly_submit(pool, NULL, run_nothing, NULL, NULL, NULL));
    /* It may not run here: whoever submits without waiting does not wait for a callback either. */
    CHECK_STATUS(duly_submit_async(pool, NULL, run_probe, &me.seen, drop_probe, tell_in_line, &me, NULL),
                 DULY_STATUS_QUEUE_FULL);
    gate_open(&door);
    CHECK(me.told == 0 && me.seen.ran == 0 && me.seen.dropped == 0);
    end_pool(pool);
}

MAIN(TEST(p03_answers_that_nobody_takes_hold_no_worker), TEST(p04_a_wait_that_times_out_leaves_the_task_alone),
     TEST(p04_submit_waits_for_room_no_longer_than_asked), TEST(p04_a_shutdown_ends_a_blocked_producer),
     TEST(p04_a_close_ends_a_blocked_producer), TEST(p04_a_shutdown_ends_a_wait_for_ever),
     TEST(p04_an_async_submit_waits_for_room_and_tells_once), TEST(p04_an_async_submit_in_line_has_its_exits),
     TEST(p16_an_async_submit_refuses_what_cannot_be_meant));
