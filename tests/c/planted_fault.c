/* Faults on purpose: planted_fault KIND. Not a test: what runs the tests under a sanitizer or valgrind runs this first, to show
 * that each fault is seen, and that nothing is seen where there is none.
 *   none             nothing is wrong
 *   use-after-free   a callback reads memory that was freed
 *   leak             a callback allocates what nobody frees
 *   undefined        a callback decides by memory that nobody wrote
 *   race             two callbacks write the same word
 *   race-with-drop   the caller writes what it has handed to duly, which drop reads */
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duly.h"

static int32_t run_read(void *data, duly_call *call) {
    (void)call;
    return *(volatile int *)data;
}

static int32_t run_leak(void *data, duly_call *call) {
    void *volatile lost = malloc(1234);
    (void)data;
    (void)call;
    lost = NULL;
    (void)lost;
    return 0;
}

static int32_t run_decide(void *data, duly_call *call) {
    (void)call;
    if (*(volatile int *)data == 7)
        puts("seven");
    return 0;
}

static atomic_int writers;

static int32_t run_write(void *data, duly_call *call) {
    (void)call;
    /* Both at once; relaxed, so that nothing orders the one before the other. */
    atomic_fetch_add_explicit(&writers, 1, memory_order_relaxed);
    for (int i = 0; i < 10000000 && atomic_load_explicit(&writers, memory_order_relaxed) < 2; i++)
        sched_yield();
    for (int i = 0; i < 1000; i++)
        *(volatile int *)data += 1;
    return 0;
}

static int32_t run_nothing(void *data, duly_call *call) {
    (void)data;
    (void)call;
    return 0;
}

static atomic_int dropped;

static void drop_read(void *data) {
    volatile int got = *(volatile int *)data;
    (void)got;
    /* Relaxed, as above. */
    atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
}

int main(int argc, char **argv) {
    const char *kind = argc > 1 ? argv[1] : "none";
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_run_fn run = run_read;
    duly_drop_fn drop = NULL;
    duly_pool *pool = NULL;
    duly_task *tasks[2] = {NULL, NULL};
    /* volatile: so that the compiler does not see the fault before the tool does. */
    int *volatile data = malloc(sizeof *data);
    if (data == NULL)
        return 2;
    options.workers = 2;
    if (strcmp(kind, "undefined") == 0)
        run = run_decide;
    else
        *data = 0;
    if (strcmp(kind, "leak") == 0)
        run = run_leak;
    if (strcmp(kind, "race") == 0)
        run = run_write;
    if (strcmp(kind, "race-with-drop") == 0) {
        run = run_nothing;
        drop = drop_read;
    }
    if (strcmp(kind, "use-after-free") == 0)
        free(data);
    if (duly_pool_new(&options, &pool) != DULY_STATUS_OK)
        return 2;
    for (int i = 0; i < 2; i++)
        if (duly_submit(pool, NULL, run, data, i == 1 ? drop : NULL, &tasks[i]) != DULY_STATUS_OK)
            return 2;
    /* No call of duly lies between the last submit and this: nothing orders the drop before it. */
    if (strcmp(kind, "race-with-drop") == 0) {
        for (int i = 0; i < 10000000 && atomic_load_explicit(&dropped, memory_order_relaxed) == 0; i++)
            sched_yield();
        for (int i = 0; i < 1000; i++)
            *(volatile int *)data += 1;
    }
    for (int i = 0; i < 2; i++) {
        duly_task_wait(tasks[i], 20 * DULY_SECOND, NULL);
        duly_task_release(tasks[i]);
    }
    duly_pool_shutdown(pool, 20 * DULY_SECOND, NULL);
    duly_pool_release(pool);
    if (strcmp(kind, "use-after-free") != 0)
        free(data);
    return 0;
}
