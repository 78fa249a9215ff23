/* P1: every task has exactly one outcome, every waiter sees that same one, the value moves to the first taker. */
#include "check.h"

typedef struct {
    duly_task *task;
    duly_outcome outcome;
    void *value;
    duly_status taken;
} waiter;

static void *wait_for_it(void *data) {
    waiter *me = data;
    OK(duly_task_wait(me->task, LONG, &me->outcome));
    return NULL;
}

static void *take_it(void *data) {
    waiter *me = data;
    OK(duly_task_wait(me->task, LONG, &me->outcome));
    me->taken = duly_task_take(me->task, &me->value);
    return NULL;
}

static void p01_every_waiter_sees_the_same_outcome(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    gate door = GATE_INIT;
    duly_task *task = submit(pool, run_gate, &door, NULL);
    waiter waiters[8];
    pthread_t threads[8];
    duly_outcome outcome = 0;
    gate_wait_entered(&door, 1);
    CHECK_STATUS(duly_task_outcome(task, &outcome), DULY_STATUS_PENDING);
    CHECK(outcome == 0);
    for (int i = 0; i < 8; i++) {
        waiters[i] = (waiter){task, 0, NULL, 0};
        CHECK(pthread_create(&threads[i], NULL, wait_for_it, &waiters[i]) == 0);
    }
    gate_open(&door);
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        CHECK(waiters[i].outcome == DULY_SUCCEEDED);
    }
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    OK(duly_task_outcome(task, &outcome));
    CHECK(outcome == DULY_SUCCEEDED);
    OK(duly_task_wait(task, 0, NULL));
    OK(duly_task_outcome(task, NULL));
    duly_task_release(task);
    end_pool(pool);
}

static int32_t run_value(void *data, duly_call *call) {
    OK(duly_call_set_value(call, data, drop_probe));
    return 0;
}

static void p01_the_value_moves_to_the_first_taker(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    probe value = {0};
    void *taken = NULL;
    void *again = &again;
    duly_task *task = submit(pool, run_value, &value, NULL);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    OK(duly_task_take(task, &taken));
    CHECK(taken == &value);
    CHECK_STATUS(duly_task_take(task, &again), DULY_STATUS_TAKEN);
    CHECK(again == &again);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    duly_task_release(task);
    end_pool(pool);
    CHECK(value.dropped == 0);
}

static void p01_of_many_takers_one_gets_the_value(void) {
    duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
    for (int round = 0; round < 50; round++) {
        probe value = {0};
        duly_task *task = submit(pool, run_value, &value, NULL);
        waiter takers[4];
        pthread_t threads[4];
        int winners = 0;
        for (int i = 0; i < 4; i++) {
            takers[i] = (waiter){duly_task_retain(task), 0, NULL, 0};
            CHECK(pthread_create(&threads[i], NULL, take_it, &takers[i]) == 0);
        }
        duly_task_release(task);
        for (int i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            if (takers[i].taken == DULY_STATUS_OK) {
                winners++;
                CHECK(takers[i].value == &value);
            } else {
                CHECK_STATUS(takers[i].taken, DULY_STATUS_TAKEN);
                CHECK(takers[i].value == NULL);
            }
            duly_task_release(takers[i].task);
        }
        CHECK(winners == 1);
        CHECK(value.dropped == 0);
    }
    end_pool(pool);
}

static void p01_a_task_without_a_value_gives_null_once(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_task *task = submit(pool, run_nothing, NULL, NULL);
    void *value = &value;
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    OK(duly_task_take(task, &value));
    CHECK(value == NULL);
    CHECK_STATUS(duly_task_take(task, &value), DULY_STATUS_TAKEN);
    duly_task_release(task);
    end_pool(pool);
}

static void p01_nothing_to_take_before_the_end_or_after_a_cancel(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    gate door = GATE_INIT;
    duly_task *task = submit(pool, run_gate, &door, NULL);
    void *value = &value;
    gate_wait_entered(&door, 1);
    CHECK_STATUS(duly_task_take(task, &value), DULY_STATUS_PENDING);
    OK(duly_task_cancel(task));
    CHECK_STATUS(duly_task_take(task, &value), DULY_STATUS_NO_VALUE);
    CHECK(value == &value);
    gate_open(&door);
    OK(duly_task_wait_released(task, LONG));
    CHECK_OUTCOME(task, DULY_CANCELLED);
    duly_task_release(task);
    end_pool(pool);
}

static void p01_a_cancel_races_the_end_and_one_wins(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    int cancelled = 0;
    for (int round = 0; round < 2000; round++) {
        duly_task *task = submit(pool, run_nothing, NULL, NULL);
        if (round % 2)
            sched_yield();
        duly_status status = duly_task_cancel(task);
        duly_outcome outcome = 0;
        OK(duly_task_outcome(task, &outcome));
        CHECK(outcome == (status == DULY_STATUS_OK ? DULY_CANCELLED : DULY_SUCCEEDED));
        CHECK(status == DULY_STATUS_OK || status == DULY_STATUS_ENDED);
        cancelled += status == DULY_STATUS_OK;
        CHECK_OUTCOME(task, outcome);
        duly_task_release(task);
    }
    duly_stats stats;
    duly_report *report = NULL;
    OK(duly_pool_shutdown(pool, LONG, &report));
    OK(duly_report_stats(report, &stats, sizeof stats));
    CHECK(stats.cancelled == (uint64_t)cancelled);
    CHECK(stats.succeeded == 2000 - (uint64_t)cancelled);
    duly_report_release(report);
    duly_pool_release(pool);
}

MAIN(TEST(p01_every_waiter_sees_the_same_outcome), TEST(p01_the_value_moves_to_the_first_taker),
     TEST(p01_of_many_takers_one_gets_the_value), TEST(p01_a_task_without_a_value_gives_null_once),
     TEST(p01_nothing_to_take_before_the_end_or_after_a_cancel), TEST(p01_a_cancel_races_the_end_and_one_wins));
