/* P6: context that crosses submit: captured by the submitter, entered around the callback, released exactly once. */
#include "check.h"

static _Thread_local int request;

/* Counts what the functions of a pool did; `pointed` are captured contexts that are not released. */
typedef struct {
    atomic_int captured, entered, left, released, dropped, wrong;
} counts;

typedef struct {
    int request;
    int inside;
} context;

static void *capture(void *data) {
    counts *me = data;
    if (request == 0)
        return NULL;
    context *made = calloc(1, sizeof *made);
    made->request = request;
    atomic_fetch_add(&me->captured, 1);
    return made;
}

static void *enter(void *data, void *captured) {
    counts *me = data;
    context *mine = captured;
    int *before = malloc(sizeof *before);
    *before = request;
    request = mine->request;
    mine->inside++;
    atomic_fetch_add(&me->entered, 1);
    return before;
}

static void leave(void *data, void *captured, void *entered) {
    counts *me = data;
    context *mine = captured;
    if (request != mine->request || --mine->inside != 0)
        atomic_store(&me->wrong, 1);
    request = *(int *)entered;
    free(entered);
    atomic_fetch_add(&me->left, 1);
}

static void release(void *data, void *captured) {
    counts *me = data;
    if (((context *)captured)->inside != 0)
        atomic_store(&me->wrong, 1);
    free(captured);
    atomic_fetch_add(&me->released, 1);
}

static void drop_counts(void *data) {
    counts *me = data;
    if (me->released != me->captured)
        atomic_store(&me->wrong, 1);
    atomic_fetch_add(&me->dropped, 1);
}

static duly_pool_options carrying(counts *me) {
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    options.workers = 1;
    options.carry_capture = capture;
    options.carry_enter = enter;
    options.carry_exit = leave;
    options.carry_release = release;
    options.carry_data = me;
    options.carry_drop = drop_counts;
    return options;
}

static int32_t run_request(void *data, duly_call *call) {
    (void)call;
    *(int *)data = request;
    return 0;
}

static void p06_context_crosses_submit_and_is_released_once(void) {
    counts me = {0};
    duly_pool_options options = carrying(&me);
    duly_pool *pool = NULL;
    gate door = GATE_INIT;
    int seen[3] = {-1, -1, -1};
    options.capacity = 2;
    OK(duly_pool_new(&options, &pool));
    request = 42;
    duly_task *task = submit(pool, run_request, &seen[0], NULL);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    duly_task_release(task);
    /* Nothing to carry: nothing is entered. */
    request = 0;
    task = submit(pool, run_request, &seen[1], NULL);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    duly_task_release(task);
    CHECK(seen[0] == 42 && seen[1] == 0 && request == 0);
    CHECK(me.captured == 1 && me.entered == 1 && me.left == 1);
    CHECK(UNTIL(me.released == 1));
    /* What never runs is released as well: cancelled, and refused. */
    request = 7;
    duly_task *stuck = submit(pool, run_gate, &door, NULL);
    gate_wait_entered(&door, 1);
    duly_task *queued = submit(pool, run_request, &seen[2], NULL), *other = submit(pool, run_request, &seen[2], NULL);
    CHECK_STATUS(duly_try_submit(pool, NULL, run_request, &seen[2], NULL, NULL), DULY_STATUS_QUEUE_FULL);
    OK(duly_task_cancel(queued));
    OK(duly_task_cancel(other));
    OK(duly_task_wait_released(queued, LONG));
    OK(duly_task_wait_released(other, LONG));
    CHECK(UNTIL(me.released == me.captured - 1));
    gate_open(&door);
    CHECK_OUTCOME(stuck, DULY_SUCCEEDED);
    CHECK(seen[2] == -1);
    duly_task_release(stuck);
    duly_task_release(queued);
    duly_task_release(other);
    end_pool(pool);
    CHECK(UNTIL(me.dropped == 1));
    CHECK(me.released == me.captured && me.entered == me.left && me.wrong == 0);
    request = 0;
}

static void p06_a_periodic_task_carries_what_was_there_when_it_began(void) {
    counts me = {0};
    duly_pool_options options = carrying(&me);
    duly_periodic_options each = DULY_PERIODIC_OPTIONS_INIT;
    duly_pool *pool = NULL;
    duly_periodic *periodic = NULL;
    int seen = -1;
    OK(duly_pool_new(&options, &pool));
    each.period_ns = MS;
    request = 9;
    OK(duly_pool_every(pool, &each, run_request, &seen, NULL, &periodic));
    request = 0;
    CHECK(UNTIL(me.left >= 3));
    OK(duly_periodic_cancel(periodic));
    duly_periodic_release(periodic);
    CHECK(UNTIL(me.released == 1));
    end_pool(pool);
    CHECK(UNTIL(me.dropped == 1));
    CHECK(seen == 9 && me.captured == 1 && me.released == 1 && me.wrong == 0);
}

static void p06_functions_may_be_left_out(void) {
    counts me = {0};
    duly_pool_options options = carrying(&me);
    duly_pool *pool = NULL;
    int seen = -1;
    options.carry_enter = NULL;
    options.carry_exit = NULL;
    OK(duly_pool_new(&options, &pool));
    request = 5;
    duly_task *task = submit(pool, run_request, &seen, NULL);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    request = 0;
    duly_task_release(task);
    end_pool(pool);
    CHECK(UNTIL(me.dropped == 1));
    CHECK(seen == 0 && me.captured == 1 && me.released == 1);
    /* Not made: not taken. */
    options.overflow = 99;
    CHECK_STATUS(duly_pool_new(&options, &pool), DULY_STATUS_INVALID_ARGUMENT);
    options.overflow = 0;
    options.workers = UINT32_MAX;
    CHECK_STATUS(duly_pool_new(&options, &pool), DULY_STATUS_INVALID_ARGUMENT);
    CHECK(me.dropped == 1);
}

MAIN(TEST(p06_context_crosses_submit_and_is_released_once), TEST(p06_a_periodic_task_carries_what_was_there_when_it_began),
     TEST(p06_functions_may_be_left_out));
