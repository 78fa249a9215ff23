/* A libuv loop whose slow work runs in a pool of duly and comes back through a completion queue.
 *
 * uv_queue_work has one pool a process, without time-outs, and ends when its callbacks do. Here a uv_poll_t watches the
 * completion queue's descriptor, so the loop is told of thousands of tasks by one event, and each has its outcome in time.
 * Keeps true: the loop never waits for the pool: its ticks of 1 ms stay on time; every task comes back once.
 *
 *     uv_loop 10000 20      10000 tasks of 20 ms; every hundredth sleeps for ever and has a time-out of 100 ms
 *
 * Build: cc -std=c11 -O2 examples/uv_loop.c -Iinclude -lduly -luv -pthread */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <uv.h>

#include "duly.h"
#include "ticks.h"

enum { WORKERS = 200, SUBMITTED_AT_ONCE = 64, TAKEN_AT_ONCE = 64, IDLE_TICKS = 300 };

typedef struct {
    duly_pool *pool;
    duly_completions *completions;
    unsigned long tasks, submitted, ended, outcomes[DULY_ABANDONED + 1];
    uintptr_t sleep_ms;
    ticks late;
    bool busy;
    uv_timer_t tick;
    uv_poll_t completed;
    uv_idle_t submits;
} program;

static int32_t run_sleep(void *data, duly_call *call) {
    const uintptr_t ms = (uintptr_t)data;
    const struct timespec span = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    (void)call;
    nanosleep(&span, NULL);
    return 0;
}

/* Some a turn, so that the loop sees its other events. */
static void on_idle(uv_idle_t *handle) {
    program *me = handle->data;
    for (int i = 0; i < SUBMITTED_AT_ONCE && me->submitted < me->tasks; i++) {
        duly_task_options options = DULY_TASK_OPTIONS_INIT;
        const bool endless = me->submitted % 100 == 99;
        options.completions = me->completions;
        options.tag = me->submitted;
        options.timeout_ns = endless ? 100 * DULY_MILLISECOND : 60 * DULY_SECOND;
        void *ms = (void *)(endless ? 2000 : me->sleep_ms);
        if (duly_try_submit(me->pool, &options, run_sleep, ms, NULL, NULL) != DULY_STATUS_OK)
            return; /* full: in a later turn */
        me->submitted++;
    }
    if (me->submitted == me->tasks)
        uv_idle_stop(handle);
}

static void on_completed(uv_poll_t *handle, int status, int events) {
    program *me = handle->data;
    duly_completion taken[TAKEN_AT_ONCE];
    size_t count;
    (void)events;
    /* What is left makes the descriptor readable again. */
    if (status < 0 || duly_completions_take(me->completions, 0, taken, TAKEN_AT_ONCE, &count) != DULY_STATUS_OK)
        return;
    for (size_t i = 0; i < count; i++) {
        me->outcomes[taken[i].outcome]++;
        duly_task_release(taken[i].task);
    }
    me->ended += count;
    if (me->ended == me->tasks)
        uv_stop(handle->loop);
}

static void on_tick(uv_timer_t *handle) {
    program *me = handle->data;
    ticks_note(&me->late);
    if (!me->busy && me->late.count >= IDLE_TICKS) {
        ticks_print(&me->late, "idle");
        ticks_start(&me->late);
        me->busy = true;
        uv_idle_start(&me->submits, on_idle);
    }
}

int main(int argc, char **argv) {
    static program me;
    if (argc != 3) {
        fprintf(stderr, "usage: uv_loop TASKS MILLISECONDS\n");
        return 2;
    }
    me.tasks = strtoul(argv[1], NULL, 10);
    me.sleep_ms = strtoul(argv[2], NULL, 10);
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    options.workers = WORKERS;
    options.capacity = (uint32_t)me.tasks + 1;
    options.stack_size = 128 * 1024;
    int fd;
    if (duly_pool_new(&options, &me.pool) != DULY_STATUS_OK ||
        duly_completions_new(me.tasks + 1, &me.completions) != DULY_STATUS_OK ||
        duly_completions_fd(me.completions, &fd) != DULY_STATUS_OK) {
        fprintf(stderr, "uv_loop: no pool\n");
        return 1;
    }
    uv_loop_t *loop = uv_default_loop();
    uv_timer_init(loop, &me.tick);
    uv_poll_init(loop, &me.completed, fd);
    uv_idle_init(loop, &me.submits);
    me.tick.data = me.completed.data = me.submits.data = &me;
    ticks_start(&me.late);
    uv_timer_start(&me.tick, on_tick, 1, 1);
    uv_poll_start(&me.completed, UV_READABLE, on_completed);
    if (me.tasks > 0)
        uv_run(loop, UV_RUN_DEFAULT);
    ticks_print(&me.late, "busy");

    /* Off the loop before the descriptor is closed. */
    uv_close((uv_handle_t *)&me.completed, NULL);
    uv_close((uv_handle_t *)&me.tick, NULL);
    uv_close((uv_handle_t *)&me.submits, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    free(me.late.late);
    duly_stats stats;
    duly_report *report = NULL;
    if (duly_pool_shutdown(me.pool, 5 * DULY_SECOND, &report) != DULY_STATUS_OK)
        return 1;
    duly_report_stats(report, &stats, sizeof stats);
    printf("outcomes: succeeded %lu deadline_exceeded %lu\n", me.outcomes[DULY_SUCCEEDED],
           me.outcomes[DULY_DEADLINE_EXCEEDED]);
    printf("books %s\n", duly_stats_balance(&stats) ? "balance" : "do not balance");
    duly_report_release(report);
    duly_completions_release(me.completions);
    duly_pool_release(me.pool);
    return me.ended != me.tasks;
}
