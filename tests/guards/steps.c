/* The steps of a task through the C interface, counted as tests/examples/steps.rs counts them in Rust: `ci/guards`.
 * Keeps true: what is counted is done by one thread: the one worker is held back by a callback while tasks are submitted, and
 * they have all ended when they are waited for. Prints how many tasks the step handled.
 * What the program's own thread does is counted inside duly_guard; what the worker does, from the end of the callback that
 * held it back to the beginning of the last one (needs valgrind's header: without it that step prints 0). */
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duly.h"

#if defined(__has_include)
#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#endif
#endif
#ifdef CALLGRIND_TOGGLE_COLLECT
enum { COUNTS_WORKERS = 1 };
#define TOGGLE() CALLGRIND_TOGGLE_COLLECT
#else
enum { COUNTS_WORKERS = 0 };
#define TOGGLE() ((void)0)
#endif

enum { TASKS = 10000 };
static duly_task *tasks[TASKS];
static duly_pool *pool;
static sem_t entered, opened;
static int counts_run;

static int32_t run(void *data, duly_call *call) {
    (void)data;
    (void)call;
    return 0;
}

/* Holds the worker back until the gate is opened. */
static int32_t gate(void *data, duly_call *call) {
    (void)data;
    (void)call;
    sem_post(&entered);
    while (sem_wait(&opened))
        ;
    if (counts_run)
        TOGGLE();
    return 0;
}

static int32_t last(void *data, duly_call *call) {
    (void)data;
    (void)call;
    if (counts_run)
        TOGGLE();
    return 0;
}

static duly_task *accepted(duly_run_fn callback) {
    duly_task *task;
    if (duly_submit(pool, NULL, callback, NULL, NULL, &task) != DULY_STATUS_OK)
        exit(1);
    return task;
}

static void submit(void) {
    for (int i = 0; i < TASKS; i++)
        if (duly_submit(pool, NULL, run, NULL, NULL, &tasks[i]) != DULY_STATUS_OK)
            exit(1);
}

static void submit_and_forget(void) {
    for (int i = 0; i < TASKS; i++)
        if (duly_submit(pool, NULL, run, NULL, NULL, NULL) != DULY_STATUS_OK)
            exit(1);
}

static void submit_with_a_deadline(void) {
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    options.timeout_ns = UINT64_C(3600000000000);
    for (int i = 0; i < TASKS; i++)
        if (duly_submit(pool, &options, run, NULL, NULL, &tasks[i]) != DULY_STATUS_OK)
            exit(1);
}

static void wait_and_let_go(void) {
    for (int i = 0; i < TASKS; i++) {
        duly_outcome outcome;
        if (duly_task_wait(tasks[i], DULY_FOREVER, &outcome) != DULY_STATUS_OK || outcome != DULY_SUCCEEDED)
            exit(1);
        duly_task_release(tasks[i]);
    }
}

/* Memory and paths that only the first tasks pay for. */
static void warm_up(void) {
    submit();
    for (int i = 0; i < TASKS; i++) {
        if (duly_task_cancel(tasks[i]) != DULY_STATUS_OK)
            exit(1);
        duly_task_release(tasks[i]);
    }
}

/* Counted is what happens inside. */
void duly_guard(void (*step)(void));
__attribute__((noinline)) void duly_guard(void (*step)(void)) {
    step();
}

int main(int argc, char **argv) {
    const char *step = argc > 1 ? argv[1] : "";
    int forgets = strcmp(step, "submit and drop the handle") == 0 || strcmp(step, "run, nobody waits") == 0;
    int runs = strcmp(step, "run") == 0 || strcmp(step, "run, nobody waits") == 0;
    int waits = strcmp(step, "wait and let go") == 0;
    void (*submits)(void) = submit;
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_task *held, *end;
    if (forgets)
        submits = submit_and_forget;
    else if (strcmp(step, "submit with a deadline") == 0)
        submits = submit_with_a_deadline;
    else if (!runs && !waits && strcmp(step, "submit") != 0) {
        fprintf(stderr, "steps: \"%s\" is not a step; ci/guards knows them\n", step);
        return 2;
    }
    if (sem_init(&entered, 0, 0) || sem_init(&opened, 0, 0))
        return 1;
    options.workers = 1;
    options.capacity = 2 * TASKS;
    if (duly_pool_new(&options, &pool) != DULY_STATUS_OK)
        return 1;
    held = accepted(gate);
    while (sem_wait(&entered))
        ;
    warm_up();
    if (runs || waits)
        submits();
    else
        duly_guard(submits);
    end = accepted(last);
    counts_run = runs;
    sem_post(&opened);
    if (duly_task_wait(end, DULY_FOREVER, NULL) != DULY_STATUS_OK)
        return 1;
    if (waits)
        duly_guard(wait_and_let_go);
    else if (!forgets)
        wait_and_let_go();
    duly_task_release(held);
    duly_task_release(end);
    duly_pool_release(pool);
    printf("%d\n", runs && !COUNTS_WORKERS ? 0 : TASKS);
    return 0;
}
