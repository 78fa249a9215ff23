/* P6: user_data and values are released exactly once, when nothing can use them any more. */
#include "check.h"

static void check_gone(const probe *seen, int ran) {
    CHECK(UNTIL(seen->dropped == 1));
    CHECK(seen->ran == ran);
    CHECK(seen->overlapped == 0);
}

static void p06_drop_comes_once_after_run(void) {
    duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
    static probe seen[500];
    for (int i = 0; i < 500; i++)
        OK(duly_submit(pool, NULL, run_probe, &seen[i], drop_probe, NULL));
    end_pool(pool);
    for (int i = 0; i < 500; i++)
        check_gone(&seen[i], 1);
}

static void p06_released_means_user_data_is_gone(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    for (int i = 0; i < 500; i++) {
        probe seen = {0};
        duly_task *task = submit(pool, run_probe, &seen, drop_probe);
        OK(duly_task_wait_released(task, LONG));
        CHECK(seen.dropped == 1);
        duly_task_release(task);
    }
    end_pool(pool);
}

static void p06_drop_comes_once_instead_of_run(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    gate door = GATE_INIT;
    probe cancelled = {0}, expired = {0}, abandoned = {0};
    duly_task *stuck = submit(pool, run_gate, &door, NULL);
    gate_wait_entered(&door, 1);
    duly_task *first = submit(pool, run_probe, &cancelled, drop_probe);
    duly_task *second = submit_within(pool, 20 * MS, run_probe, &expired, drop_probe);
    OK(duly_submit(pool, NULL, run_probe, &abandoned, drop_probe, NULL));
    OK(duly_task_cancel(first));
    check_gone(&cancelled, 0);
    CHECK_OUTCOME(second, DULY_DEADLINE_EXCEEDED);
    check_gone(&expired, 0);
    OK(duly_pool_shutdown(pool, 0, NULL));
    check_gone(&abandoned, 0);
    gate_open(&door);
    OK(duly_task_wait_released(stuck, LONG));
    duly_task_release(stuck);
    duly_task_release(first);
    duly_task_release(second);
    duly_pool_release(pool);
    CHECK(cancelled.dropped == 1 && expired.dropped == 1 && abandoned.dropped == 1);
}

static void p06_a_refused_callback_stays_the_callers(void) {
    duly_pool *pool = make_pool(1, 1, DULY_OVERFLOW_REJECT);
    gate door = GATE_INIT;
    probe seen = {0};
    OK(duly_submit(pool, NULL, run_gate, &door, NULL, NULL));
    gate_wait_entered(&door, 1);
    OK(duly_submit(pool, NULL, run_nothing, NULL, NULL, NULL));
    CHECK_STATUS(duly_submit(pool, NULL, run_probe, &seen, drop_probe, NULL), DULY_STATUS_QUEUE_FULL);
    CHECK(seen.dropped == 0);
    gate_open(&door);
    duly_status status;
    CHECK(UNTIL((status = duly_submit(pool, NULL, run_probe, &seen, drop_probe, NULL)) != DULY_STATUS_QUEUE_FULL));
    OK(status);
    end_pool(pool);
    check_gone(&seen, 1);
}

static void p06_user_data_without_a_drop_is_left_alone(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    probe seen = {0};
    OK(duly_submit(pool, NULL, run_probe, &seen, NULL, NULL));
    end_pool(pool);
    CHECK(seen.ran == 1 && seen.dropped == 0);
}

typedef struct {
    probe first;
    probe second;
    int32_t code;
} values;

static int32_t run_values(void *data, duly_call *call) {
    values *both = data;
    OK(duly_call_set_value(call, &both->first, drop_probe));
    OK(duly_call_set_value(call, &both->second, drop_probe));
    CHECK(both->first.dropped == 1);
    return both->code;
}

static void p06_a_value_nobody_took_is_dropped_by_the_last_release(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    values both = {0};
    duly_task *task = submit(pool, run_values, &both, NULL);
    duly_task *other = duly_task_retain(task);
    CHECK(other == task);
    OK(duly_task_wait_released(task, LONG));
    duly_task_release(task);
    CHECK_OUTCOME(other, DULY_SUCCEEDED);
    CHECK(both.second.dropped == 0);
    duly_task_release(other);
    end_pool(pool);
    CHECK(both.first.dropped == 1 && both.second.dropped == 1);
}

static void p06_the_value_of_a_failure_is_dropped(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    values both = {.code = 5};
    duly_task *task = submit(pool, run_values, &both, NULL);
    CHECK_OUTCOME(task, DULY_FAILED);
    end_pool(pool);
    CHECK(both.first.dropped == 1 && both.second.dropped == 1);
    duly_task_release(task);
    CHECK(both.second.dropped == 1);
}

typedef struct {
    gate door;
    probe value;
} late;

static int32_t run_late(void *data, duly_call *call) {
    late *me = data;
    run_gate(&me->door, call);
    OK(duly_call_set_value(call, &me->value, drop_probe));
    return 0;
}

static void p06_the_value_of_a_late_callback_is_dropped(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    late me = {.door = GATE_INIT};
    duly_task *task = submit(pool, run_late, &me, NULL);
    gate_wait_entered(&me.door, 1);
    OK(duly_task_cancel(task));
    gate_open(&me.door);
    CHECK(UNTIL(me.value.dropped == 1));
    CHECK_OUTCOME(task, DULY_CANCELLED);
    duly_task_release(task);
    end_pool(pool);
    CHECK(me.value.dropped == 1);
}

MAIN(TEST(p06_drop_comes_once_after_run), TEST(p06_released_means_user_data_is_gone),
     TEST(p06_drop_comes_once_instead_of_run), TEST(p06_a_refused_callback_stays_the_callers),
     TEST(p06_user_data_without_a_drop_is_left_alone), TEST(p06_a_value_nobody_took_is_dropped_by_the_last_release),
     TEST(p06_the_value_of_a_failure_is_dropped), TEST(p06_the_value_of_a_late_callback_is_dropped));
