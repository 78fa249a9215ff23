/* P9 at the end of a process: it ends in time, with the status that the program chose and without a crash, while callbacks
 * are stuck, whichever way it ends. Each way is a child of this program. */
#include <sys/wait.h>

#include "check.h"

static const char *program;
static gate never = GATE_INIT;

static int32_t run_exit(void *data, duly_call *call) {
    (void)call;
    exit(*(int *)data);
}

static void *exit_from_a_thread(void *data) {
    exit(*(int *)data);
}

static duly_pool *at_exit_pool;
static void submit_at_exit(void) {
    duly_task *task = NULL;
    /* Whether there still are workers is not promised here; that the call comes back is. */
    if (duly_submit(at_exit_pool, NULL, run_nothing, NULL, NULL, &task) == DULY_STATUS_OK)
        duly_task_wait(task, 20 * MS, NULL);
    duly_task_release(task);
}

/* Two workers in callbacks that never return, one of them overdue, and tasks behind them. */
static duly_pool *stuck_pool(void) {
    duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
    duly_task *overdue = submit(pool, run_gate, &never, NULL);
    submit(pool, run_gate, &never, NULL);
    gate_wait_entered(&never, 2);
    OK(duly_task_cancel(overdue));
    CHECK_OUTCOME(overdue, DULY_CANCELLED);
    for (int i = 0; i < 100; i++)
        OK(duly_submit(pool, NULL, run_gate, &never, NULL, NULL));
    return pool;
}

/* What a child of this program does instead of the tests; it ends with 7. */
static int child(const char *way) {
    static int seven = 7;
    pthread_t thread;
    duly_pool *pool = stuck_pool();
    if (strcmp(way, "return") == 0)
        return seven;
    if (strcmp(way, "exit") == 0)
        exit(seven);
    if (strcmp(way, "quick_exit") == 0)
        quick_exit(seven);
    if (strcmp(way, "released") == 0) {
        duly_pool_release(pool);
        return seven;
    }
    if (strcmp(way, "shut_down") == 0) {
        duly_pool_shutdown(pool, MS, NULL);
        duly_pool_release(pool);
        return seven;
    }
    if (strcmp(way, "atexit") == 0) {
        at_exit_pool = pool;
        atexit(submit_at_exit);
        return seven;
    }
    if (strcmp(way, "from_a_callback") == 0) {
        duly_pool *other = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
        duly_task_wait(submit(other, run_exit, &seven, NULL), LONG, NULL);
    }
    if (strcmp(way, "from_a_thread") == 0) {
        pthread_create(&thread, NULL, exit_from_a_thread, &seven);
        pthread_exit(NULL);
    }
    return 1;
}

static void p09_a_process_with_stuck_callbacks_ends_in_time_without_a_crash(void) {
    const char *ways[] = {"return", "exit", "quick_exit", "released", "shut_down", "atexit", "from_a_callback", "from_a_thread"};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        int status = 0;
        const uint64_t began = now_ns();
        pid_t pid = fork();
        if (pid == 0) {
            /* What stuck callbacks hold is not given back: no leak is meant here. */
            setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
            execl(program, program, ways[i], (char *)NULL);
            _exit(127);
        }
        CHECK(pid > 0);
        if (!UNTIL(waitpid(pid, &status, WNOHANG) == pid)) {
            CHECK(!"the child ends");
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
        }
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) {
            printf("  the way %s: wait status %d\n", ways[i], status);
            CHECK(!"the status that the program chose");
        }
        CHECK(now_ns() - began < LONG / 2);
    }
}

int main(int argc, char **argv) {
    if (argc > 1)
        return child(argv[1]);
    program = argv[0];
    const test tests[] = {TEST(p09_a_process_with_stuck_callbacks_ends_in_time_without_a_crash)};
    return run_tests(tests, sizeof tests / sizeof tests[0]);
}
