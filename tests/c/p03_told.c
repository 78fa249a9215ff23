/* P3, P1: completion callbacks and on_cancel hooks are told once, the one outcome, and their data is released once. */
#include "check.h"

typedef struct {
    atomic_int told;
    _Atomic(duly_outcome) outcome;
    atomic_int dropped;
    /* Set when drop came before tell: must stay 0 where something is told. */
    atomic_int early;
} listener;

static void tell_listener(void *data, duly_outcome outcome) {
    listener *me = data;
    atomic_store(&me->outcome, outcome);
    atomic_fetch_add(&me->told, 1);
}

static void drop_listener(void *data) {
    listener *me = data;
    if (me->told == 0)
        atomic_store(&me->early, 1);
    atomic_fetch_add(&me->dropped, 1);
}

static void check_told(listener *me, duly_outcome outcome) {
    CHECK(UNTIL(me->dropped == 1));
    CHECK(me->told == 1 && me->outcome == outcome && me->early == 0);
}

static void p03_a_completion_callback_is_told_before_and_after(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    gate door = GATE_INIT;
    static listener before, after;
    duly_task *task = submit(pool, run_gate, &door, NULL);
    OK(duly_task_on_complete(task, tell_listener, &before, drop_listener));
    CHECK(before.told == 0);
    gate_open(&door);
    check_told(&before, DULY_SUCCEEDED);
    /* The task has ended: here and now. */
    OK(duly_task_on_complete(task, tell_listener, &after, drop_listener));
    CHECK(after.told == 1 && after.dropped == 1 && after.outcome == DULY_SUCCEEDED);
    duly_task_release(task);
    end_pool(pool);
}

static void p03_it_is_told_whatever_ends_the_task_and_without_a_handle(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    gate door = GATE_INIT;
    static listener cancelled, late, abandoned;
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    uint64_t start;
    options.timeout_ns = 20 * MS;
    duly_task *stuck = submit_begun(pool, &options, &start, run_gate, &door, gate_begun);
    OK(duly_task_on_complete(stuck, tell_listener, &late, drop_listener));
    duly_task *queued = submit(pool, run_nothing, NULL, NULL);
    OK(duly_task_on_complete(queued, tell_listener, &cancelled, drop_listener));
    OK(duly_task_cancel(queued));
    check_told(&cancelled, DULY_CANCELLED);
    check_told(&late, DULY_DEADLINE_EXCEEDED);
    gate_open(&door);
    OK(duly_task_wait_released(stuck, LONG));
    gate again = GATE_INIT;
    duly_task *last = submit(pool, run_gate, &again, NULL);
    gate_wait_entered(&again, 1);
    OK(duly_task_on_complete(last, tell_listener, &abandoned, drop_listener));
    duly_task *kept = duly_task_retain(last);
    duly_task_release(last);
    OK(duly_pool_shutdown(pool, 0, NULL));
    check_told(&abandoned, DULY_ABANDONED);
    gate_open(&again);
    OK(duly_task_wait_released(kept, LONG));
    duly_task_release(kept);
    duly_task_release(stuck);
    duly_task_release(queued);
    duly_pool_release(pool);
}

typedef struct {
    gate door;
    listener hook;
    listener unused;
    _Atomic(duly_outcome) cause;
    atomic_int pending;
} hooked;

static void open_door(void *data, duly_outcome outcome) {
    hooked *me = data;
    tell_listener(&me->hook, outcome);
    gate_open(&me->door);
}

static void drop_hook(void *data) {
    drop_listener(&((hooked *)data)->hook);
}

static int32_t run_hooked(void *data, duly_call *call) {
    hooked *me = data;
    duly_outcome cause = 0;
    me->pending = duly_call_cause(call, &cause) == DULY_STATUS_PENDING && cause == 0;
    OK(duly_call_on_cancel(call, open_door, me, drop_hook));
    run_gate(&me->door, call);
    OK(duly_call_cause(call, &cause));
    atomic_store(&me->cause, cause);
    /* It has happened: here and now. */
    OK(duly_call_on_cancel(call, tell_listener, &me->unused, drop_listener));
    CHECK(me->unused.told == 1 && me->unused.dropped == 1);
    return 0;
}

static int hook_begun(void *data) { return gate_begun(&((hooked *)data)->door); }

static void p03_a_hook_wakes_what_the_callback_waits_for(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    static hooked by_cancel = {.door = GATE_INIT}, by_time = {.door = GATE_INIT};
    duly_task *first = submit(pool, run_hooked, &by_cancel, NULL);
    gate_wait_entered(&by_cancel.door, 1);
    OK(duly_task_cancel(first));
    OK(duly_task_wait_released(first, LONG));
    check_told(&by_cancel.hook, DULY_CANCELLED);
    CHECK(by_cancel.pending && by_cancel.cause == DULY_CANCELLED);
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    uint64_t start;
    options.timeout_ns = 20 * MS;
    duly_task *second = submit_begun(pool, &options, &start, run_hooked, &by_time, hook_begun);
    OK(duly_task_wait_released(second, LONG));
    check_told(&by_time.hook, DULY_DEADLINE_EXCEEDED);
    CHECK(by_time.cause == DULY_DEADLINE_EXCEEDED);
    duly_task_release(first);
    duly_task_release(second);
    end_pool(pool);
}

static int32_t run_hook_that_is_not_needed(void *data, duly_call *call) {
    OK(duly_call_on_cancel(call, tell_listener, data, drop_listener));
    return 0;
}

static void p03_a_hook_ends_with_the_callback(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    static listener hook;
    duly_task *task = submit(pool, run_hook_that_is_not_needed, &hook, NULL);
    OK(duly_task_wait_released(task, LONG));
    CHECK(hook.told == 0 && hook.dropped == 1);
    CHECK_STATUS(duly_task_cancel(task), DULY_STATUS_ENDED);
    CHECK(hook.told == 0);
    duly_task_release(task);
    end_pool(pool);
}

static int32_t run_bad_hooks(void *data, duly_call *call) {
    listener *unused = data;
    CHECK_STATUS(duly_call_on_cancel(call, NULL, unused, drop_listener), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_call_on_cancel(NULL, tell_listener, unused, drop_listener), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_call_cause(NULL, NULL), DULY_STATUS_NULL_ARGUMENT);
    return 0;
}

static void p16_a_refused_listener_stays_the_callers(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    static listener unused;
    duly_task *task = submit(pool, run_bad_hooks, &unused, NULL);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    CHECK_STATUS(duly_task_on_complete(task, NULL, &unused, drop_listener), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_task_on_complete(NULL, tell_listener, &unused, drop_listener), DULY_STATUS_NULL_ARGUMENT);
    CHECK(unused.told == 0 && unused.dropped == 0);
    duly_task_release(task);
    end_pool(pool);
}

MAIN(TEST(p03_a_completion_callback_is_told_before_and_after),
     TEST(p03_it_is_told_whatever_ends_the_task_and_without_a_handle), TEST(p03_a_hook_wakes_what_the_callback_waits_for),
     TEST(p03_a_hook_ends_with_the_callback), TEST(p16_a_refused_listener_stays_the_callers));
