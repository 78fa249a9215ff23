/* P10: a callback that waits for a task of its own pool never stalls it; what could never end is told. */
#include "check.h"

typedef struct {
    duly_pool *pool;
    duly_task *own;
    gate door;
    probe child;
    atomic_int told;
} world;

static int32_t run_wait_for_a_child(void *data, duly_call *call) {
    world *me = data;
    duly_task *child = NULL;
    duly_outcome ended;
    (void)call;
    OK(duly_submit(me->pool, NULL, run_probe, &me->child, drop_probe, &child));
    OK(duly_task_wait(child, DULY_FOREVER, &ended));
    CHECK(ended == DULY_SUCCEEDED);
    duly_task_release(child);
    return 0;
}

static void p10_a_queued_task_is_run_by_the_callback_that_waits_for_it(void) {
    world me = {.door = GATE_INIT};
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    options.workers = 1;
    options.max_replacements = DULY_NONE;
    OK(duly_pool_new(&options, &me.pool));
    me.own = submit(me.pool, run_wait_for_a_child, &me, NULL);
    CHECK_OUTCOME(me.own, DULY_SUCCEEDED);
    duly_task_release(me.own);
    end_pool(me.pool);
    CHECK(me.child.ran == 1 && me.child.dropped == 1);
}

static int32_t run_wait_for_itself(void *data, duly_call *call) {
    world *me = data;
    run_gate(&me->door, call);
    CHECK_STATUS(duly_task_wait(me->own, DULY_FOREVER, NULL), DULY_STATUS_WOULD_DEADLOCK);
    atomic_store(&me->told, 1);
    return 0;
}

static void p10_a_callback_that_waits_for_itself_is_told(void) {
    world me = {.door = GATE_INIT};
    me.pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    me.own = submit(me.pool, run_wait_for_itself, &me, NULL);
    gate_open(&me.door);
    CHECK_OUTCOME(me.own, DULY_SUCCEEDED);
    CHECK(me.told);
    duly_task_release(me.own);
    end_pool(me.pool);
}

MAIN(TEST(p10_a_queued_task_is_run_by_the_callback_that_waits_for_it), TEST(p10_a_callback_that_waits_for_itself_is_told));
