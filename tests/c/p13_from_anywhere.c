/* P13: every function may be called from callbacks; what cannot be done there says so. */
#include "check.h"

typedef struct {
    duly_pool *pool;
    duly_task *own;
    gate door;
    atomic_int done;
    probe child;
} world;

static int32_t run_everything(void *data, duly_call *call) {
    world *me = data;
    duly_task *task = NULL;
    duly_stats stats = {0};
    duly_report *report = NULL;
    run_gate(&me->door, call);
    CHECK_STATUS(duly_pool_shutdown(me->pool, LONG, &report), DULY_STATUS_WOULD_DEADLOCK);
    CHECK(report == NULL);
    OK(duly_submit(me->pool, NULL, run_probe, &me->child, drop_probe, &task));
    CHECK_STATUS(duly_task_wait(task, 0, NULL), DULY_STATUS_TIMED_OUT);
    OK(duly_task_cancel(task));
    duly_task_release(task);
    OK(duly_pool_stats(me->pool, &stats, sizeof stats));
    CHECK(stats.running == 1);
    CHECK_STATUS(duly_task_outcome(me->own, NULL), DULY_STATUS_PENDING);
    CHECK_TEXT(duly_task_message(me->own), "");
    CHECK(duly_task_retain(me->own) == me->own);
    duly_task_release(me->own);
    OK(duly_pool_close(me->pool));
    CHECK_STATUS(duly_submit(me->pool, NULL, run_nothing, NULL, NULL, NULL), DULY_STATUS_SHUT_DOWN);
    OK(duly_task_cancel(me->own));
    CHECK(duly_call_is_cancelled(call));
    atomic_store(&me->done, 1);
    return 0;
}

static void p13_a_callback_may_call_everything(void) {
    world me = {.door = GATE_INIT};
    me.pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    me.own = submit(me.pool, run_everything, &me, NULL);
    gate_open(&me.door);
    OK(duly_task_wait_released(me.own, LONG));
    CHECK(me.done);
    CHECK_OUTCOME(me.own, DULY_CANCELLED);
    duly_task_release(me.own);
    end_pool(me.pool);
    CHECK(me.child.ran == 0 && me.child.dropped == 1);
}

static int32_t run_release_the_last_handles(void *data, duly_call *call) {
    world *me = data;
    run_gate(&me->door, call);
    duly_pool_release(me->pool);
    duly_task_release(me->own);
    atomic_store(&me->done, 1);
    return 0;
}

static void p13_a_callback_may_release_the_last_handles(void) {
    world me = {.door = GATE_INIT};
    me.pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    me.own = submit(me.pool, run_release_the_last_handles, &me, NULL);
    duly_task *mine = duly_task_retain(me.own);
    gate_open(&me.door);
    CHECK_OUTCOME(mine, DULY_SUCCEEDED);
    OK(duly_task_wait_released(mine, LONG));
    CHECK(me.done);
    duly_task_release(mine);
}

typedef struct {
    duly_pool *pool;
    atomic_int done;
} dropper;

static void drop_that_submits(void *data) {
    dropper *me = data;
    duly_stats stats;
    OK(duly_submit(me->pool, NULL, run_nothing, NULL, NULL, NULL));
    OK(duly_pool_stats(me->pool, &stats, sizeof stats));
    atomic_fetch_add(&me->done, 1);
}

static void p13_a_drop_may_use_the_pool(void) {
    dropper me = {make_pool(1, 0, DULY_OVERFLOW_DEFAULT), 0};
    gate door = GATE_INIT;
    OK(duly_submit(me.pool, NULL, run_gate, &door, NULL, NULL));
    gate_wait_entered(&door, 1);
    duly_task *task = submit(me.pool, run_nothing, &me, drop_that_submits);
    OK(duly_task_cancel(task));
    CHECK(UNTIL(me.done == 1));
    gate_open(&door);
    duly_task_release(task);
    task = submit(me.pool, run_nothing, &me, drop_that_submits);
    OK(duly_task_wait_released(task, LONG));
    CHECK(me.done == 2);
    duly_task_release(task);
    end_pool(me.pool);
}

MAIN(TEST(p13_a_callback_may_call_everything), TEST(p13_a_callback_may_release_the_last_handles),
     TEST(p13_a_drop_may_use_the_pool));
