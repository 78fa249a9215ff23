/* The test kit of the C tests: named tests, checks that go on after a failure, a watchdog, gates and counters.
 * Keeps true: each test prints one line, "ok NAME" or "FAILED NAME"; none hangs (a watchdog ends the program and says
 * which test it was); nothing waits by sleeping for a fixed time: until() polls up to a limit. */
#ifndef DULY_TESTS_CHECK_H
#define DULY_TESTS_CHECK_H

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "duly.h"

#define MS DULY_MILLISECOND
/* Longer than anything here takes, shorter than the watchdog. */
#define LONG (20 * DULY_SECOND)
/* How much later than promised an answer may come on a machine that is so busy that threads stand still for seconds. What comes
 * only when a callback returns, or never, is still later. */
#define LATE (8 * DULY_SECOND)

static const char *check_name = "";
static int check_failed;

#define CHECK(condition)                                                                    \
    do {                                                                                    \
        if (!(condition)) {                                                                 \
            printf("  %s:%d: %s: not so: %s\n", __FILE__, __LINE__, check_name, #condition); \
            check_failed = 1;                                                               \
        }                                                                                   \
    } while (0)

#define CHECK_STATUS(call, wanted)                                                                         \
    do {                                                                                                   \
        duly_status got_ = (call);                                                                         \
        if (got_ != (wanted)) {                                                                            \
            printf("  %s:%d: %s: %s is %s, not %s\n", __FILE__, __LINE__, check_name, #call,                \
                   duly_status_name(got_), duly_status_name(wanted));                                      \
            check_failed = 1;                                                                              \
        }                                                                                                  \
    } while (0)

#define OK(call) CHECK_STATUS(call, DULY_STATUS_OK)

#define CHECK_TEXT(text, wanted)                                                                                  \
    do {                                                                                                          \
        const char *got_ = (text);                                                                                \
        if (strcmp(got_, (wanted)) != 0) {                                                                        \
            printf("  %s:%d: %s: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, check_name, #text, got_, wanted); \
            check_failed = 1;                                                                                     \
        }                                                                                                         \
    } while (0)

static inline uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * DULY_SECOND + (uint64_t)now.tv_nsec;
}

static inline void pause_ns(uint64_t ns) {
    struct timespec span = {(time_t)(ns / DULY_SECOND), (long)(ns % DULY_SECOND)};
    while (nanosleep(&span, &span) != 0) {
    }
}

/* True as soon as `condition` holds, false when it does not within LONG. */
#define UNTIL(condition) __extension__({             \
    const uint64_t end_ = now_ns() + LONG;           \
    int held_;                                       \
    while (!(held_ = !!(condition)) && now_ns() < end_) \
        pause_ns(MS / 2);                            \
    held_;                                           \
})

static inline duly_outcome outcome_of(const duly_task *task) {
    duly_outcome outcome = 0;
    CHECK_STATUS(duly_task_wait(task, LONG, &outcome), DULY_STATUS_OK);
    return outcome;
}

#define CHECK_OUTCOME(task, wanted)                                                                             \
    do {                                                                                                        \
        duly_outcome ended_ = outcome_of(task);                                                                 \
        if (ended_ != (wanted)) {                                                                               \
            printf("  %s:%d: %s: %s is %s, not %s\n", __FILE__, __LINE__, check_name, #task,                     \
                   duly_outcome_name(ended_), duly_outcome_name(wanted));                                       \
            check_failed = 1;                                                                                   \
        }                                                                                                       \
    } while (0)

/* A door that callbacks wait at: a callback that is stuck as long as the test wants it to be. */
typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int open;
    int entered;
    atomic_int left;
} gate;
#define GATE_INIT {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0}

static inline int32_t run_gate(void *data, duly_call *call) {
    gate *door = data;
    (void)call;
    pthread_mutex_lock(&door->lock);
    door->entered++;
    pthread_cond_broadcast(&door->changed);
    while (!door->open)
        pthread_cond_wait(&door->changed, &door->lock);
    pthread_mutex_unlock(&door->lock);
    atomic_fetch_add(&door->left, 1);
    return 0;
}

static inline void gate_open(gate *door) {
    pthread_mutex_lock(&door->lock);
    door->open = 1;
    pthread_cond_broadcast(&door->changed);
    pthread_mutex_unlock(&door->lock);
}

static inline void gate_wait_entered(gate *door, int count) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += (time_t)(LONG / DULY_SECOND);
    pthread_mutex_lock(&door->lock);
    while (door->entered < count && pthread_cond_timedwait(&door->changed, &door->lock, &end) == 0) {
    }
    CHECK(door->entered >= count);
    pthread_mutex_unlock(&door->lock);
}

/* What happened to a callback and its data. */
typedef struct {
    atomic_int ran;
    atomic_int dropped;
    /* Set by drop while run was inside: must stay 0. */
    atomic_int overlapped;
    atomic_int inside;
} probe;

static inline int32_t run_probe(void *data, duly_call *call) {
    probe *seen = data;
    (void)call;
    atomic_store(&seen->inside, 1);
    atomic_fetch_add(&seen->ran, 1);
    atomic_store(&seen->inside, 0);
    return 0;
}

static inline void drop_probe(void *data) {
    probe *seen = data;
    if (atomic_load(&seen->inside))
        atomic_store(&seen->overlapped, 1);
    atomic_fetch_add(&seen->dropped, 1);
}

static inline int32_t run_nothing(void *data, duly_call *call) {
    (void)data;
    (void)call;
    return 0;
}

/* A pool of `workers` with a queue of `capacity`; 0 is the default of each. */
static inline duly_pool *make_pool(uint32_t workers, uint32_t capacity, duly_overflow overflow) {
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_pool *pool = NULL;
    options.workers = workers;
    options.capacity = capacity;
    options.overflow = overflow;
    OK(duly_pool_new(&options, &pool));
    if (pool == NULL)
        exit(1);
    return pool;
}

/* Drains and releases; every task of the pool must end by itself. */
static inline void end_pool(duly_pool *pool) {
    duly_report *report = NULL;
    OK(duly_pool_shutdown(pool, LONG, &report));
    CHECK(duly_report_drained(report));
    CHECK(duly_report_threads_left(report) == 0);
    duly_report_release(report);
    duly_pool_release(pool);
}

static inline duly_task *submit(const duly_pool *pool, duly_run_fn run, void *data, duly_drop_fn drop) {
    duly_task *task = NULL;
    OK(duly_submit(pool, NULL, run, data, drop, &task));
    CHECK(task != NULL);
    return task;
}

static inline duly_task *submit_within(const duly_pool *pool, uint64_t timeout_ns, duly_run_fn run, void *data,
                                       duly_drop_fn drop) {
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    duly_task *task = NULL;
    options.timeout_ns = timeout_ns;
    OK(duly_submit(pool, &options, run, data, drop, &task));
    CHECK(task != NULL);
    return task;
}

/* Submits a callback that has begun before the time-out of its task has passed. On a busy machine that takes several tries, each with
 * twice as long: options->timeout_ns and *start are those of the last. `begun` says whether the callback got there. */
static inline duly_task *submit_begun(const duly_pool *pool, duly_task_options *options, uint64_t *start, duly_run_fn run,
                                      void *data, int (*begun)(void *data)) {
    for (;; options->timeout_ns *= 2) {
        duly_task *task = NULL;
        *start = now_ns();
        duly_status status = duly_submit(pool, options, run, data, NULL, &task);
        /* Over before it was accepted. */
        if (status == DULY_STATUS_DEADLINE_EXCEEDED)
            continue;
        OK(status);
        if (status != DULY_STATUS_OK)
            exit(1);
        int over = 0;
        while (!begun(data) && !(over = duly_task_wait_released(task, 0) == DULY_STATUS_OK))
            pause_ns(MS / 2);
        if (!over || begun(data))
            return task;
        duly_task_release(task);
    }
}

static inline int gate_begun(void *data) {
    gate *door = data;
    pthread_mutex_lock(&door->lock);
    int entered = door->entered;
    pthread_mutex_unlock(&door->lock);
    return entered > 0;
}

typedef struct {
    const char *name;
    void (*body)(void);
} test;
#define TEST(name) {#name, name}

static void check_overslept(int signal_number) {
    (void)signal_number;
    const char *parts[] = {"FAILED ", check_name, " (still running after 60 s)\n"};
    for (size_t i = 0; i < 3; i++)
        if (write(STDOUT_FILENO, parts[i], strlen(parts[i])) < 0)
            break;
    _exit(1);
}

static inline int run_tests(const test *tests, size_t count) {
    int failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGALRM, check_overslept);
    for (size_t i = 0; i < count; i++) {
        check_name = tests[i].name;
        check_failed = 0;
        alarm(60);
        tests[i].body();
        alarm(0);
        printf("%s %s\n", check_failed ? "FAILED" : "ok", check_name);
        failed |= check_failed;
    }
    return failed;
}
#define MAIN(...)                                                    \
    int main(void) {                                                 \
        const test tests[] = {__VA_ARGS__};                          \
        return run_tests(tests, sizeof tests / sizeof tests[0]);     \
    }                                                                \
    typedef int check_main_needs_a_semicolon

#endif
