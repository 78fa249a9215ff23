/* P14: signals drain a pool, a second one abandons, and they cancel tokens. Each case is a process of its own, but the last,
 * which forks. */
#include <sys/wait.h>

#include "check.h"

/* What a signal does by default cannot be brought back by a handler in a forked child under ThreadSanitizer: it defers what
 * handlers do to handlers. */
#if defined(__SANITIZE_THREAD__)
enum { LETHAL = SIGKILL };
#else
enum { LETHAL = SIGTERM };
#endif

static const int both[] = {SIGTERM, SIGINT};

/* How the case ended: its status, or minus the signal that ended it. */
static int in_process(void (*body)(void)) {
    int status = -1;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(50);
        body();
        fflush(stdout);
        _exit(check_failed);
    }
    CHECK(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void drains(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_report *report = NULL;
    gate door = GATE_INIT;
    OK(duly_pool_shutdown_on(pool, both, 2, LONG));
    CHECK(duly_pool_signal(pool) == 0);
    CHECK_STATUS(duly_pool_wait_shutdown(pool, 0, &report), DULY_STATUS_TIMED_OUT);
    duly_task *running = submit(pool, run_gate, &door, NULL), *queued = submit(pool, run_nothing, NULL, NULL);
    gate_wait_entered(&door, 1);
    raise(SIGTERM);
    CHECK(UNTIL(duly_pool_signal(pool) == SIGTERM));
    CHECK(UNTIL(duly_try_submit(pool, NULL, run_nothing, NULL, NULL, NULL) == DULY_STATUS_SHUT_DOWN));
    gate_open(&door);
    OK(duly_pool_wait_shutdown(pool, LONG, &report));
    CHECK(duly_report_drained(report));
    CHECK_OUTCOME(running, DULY_SUCCEEDED);
    CHECK_OUTCOME(queued, DULY_SUCCEEDED);
    OK(duly_pool_wait_shutdown(pool, DULY_FOREVER, NULL));
    duly_report_release(report);
    duly_task_release(running);
    duly_task_release(queued);
    duly_pool_release(pool);
}

static void second(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_report *report = NULL;
    gate door = GATE_INIT;
    OK(duly_pool_shutdown_on(pool, both, 2, DULY_FOREVER));
    duly_task *stuck = submit(pool, run_gate, &door, NULL);
    gate_wait_entered(&door, 1);
    raise(SIGINT);
    CHECK(UNTIL(duly_pool_signal(pool) == SIGINT));
    CHECK_STATUS(duly_pool_wait_shutdown(pool, 5 * MS, NULL), DULY_STATUS_TIMED_OUT);
    raise(SIGTERM);
    OK(duly_pool_wait_shutdown(pool, LONG, &report));
    CHECK(!duly_report_drained(report) && duly_report_abandoned_count(report) == 1);
    CHECK_OUTCOME(stuck, DULY_ABANDONED);
    CHECK(duly_pool_signal(pool) == SIGINT);
    duly_report_release(report);
    gate_open(&door);
    OK(duly_task_wait_released(stuck, LONG));
    duly_task_release(stuck);
    duly_pool_release(pool);
}

static int32_t run_wait_shutdown(void *data, duly_call *call) {
    (void)call;
    CHECK_STATUS(duly_pool_wait_shutdown(data, DULY_FOREVER, NULL), DULY_STATUS_WOULD_DEADLOCK);
    return 0;
}

static void rebinds(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT), *other = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    const int user = SIGUSR1;
    CHECK_STATUS(duly_pool_wait_shutdown(pool, 0, NULL), DULY_STATUS_INVALID_ARGUMENT);
    OK(duly_pool_shutdown_on(pool, both, 2, LONG));
    OK(duly_pool_shutdown_on(pool, &user, 1, LONG));
    OK(duly_pool_shutdown_on(other, both, 2, LONG));
    duly_task *task = submit(pool, run_wait_shutdown, pool, NULL);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    duly_task_release(task);
    raise(SIGTERM);
    OK(duly_pool_wait_shutdown(other, LONG, NULL));
    CHECK(duly_pool_signal(pool) == 0);
    raise(SIGUSR1);
    OK(duly_pool_wait_shutdown(pool, LONG, NULL));
    CHECK(duly_pool_signal(pool) == SIGUSR1);
    duly_pool_release(pool);
    duly_pool_release(other);
}

/* Once nobody is bound, the signal ends the process. */
static void unbound(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    OK(duly_pool_shutdown_on(pool, both, 2, LONG));
    OK(duly_pool_shutdown_on(pool, NULL, 0, 0));
    if (!check_failed && raise(SIGTERM) == 0)
        pause_ns(LONG);
}

static void released(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    OK(duly_pool_shutdown_on(pool, both, 2, LONG));
    duly_pool_release(pool);
    if (!check_failed && raise(SIGINT) == 0)
        pause_ns(LONG);
}

static void tokens(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_token *root = NULL, *child = NULL;
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    duly_task *task = NULL;
    gate door = GATE_INIT;
    const int users[] = {SIGUSR1, SIGUSR2};
    OK(duly_token_new(&root));
    OK(duly_token_cancel_on(root, users, 2));
    OK(duly_token_child(root, &child));
    options.token = child;
    OK(duly_submit(pool, &options, run_gate, &door, NULL, &task));
    /* The child keeps it bound. */
    duly_token_release(root);
    raise(SIGUSR2);
    OK(duly_token_wait(child, LONG));
    CHECK_OUTCOME(task, DULY_CANCELLED);
    char reason[20];
    snprintf(reason, sizeof reason, "signal %d", SIGUSR2);
    CHECK_TEXT(duly_token_reason(child), reason);
    CHECK_TEXT(duly_task_reason(task), reason);
    gate_open(&door);
    OK(duly_task_wait_released(task, LONG));
    duly_token_release(child);
    duly_task_release(task);
    end_pool(pool);
}

static void refused(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_token *token = NULL;
    const int wrong[] = {SIGTERM, SIGKILL}, number = -1;
    const duly_status none = DULY_STATUS_NULL_ARGUMENT, invalid = DULY_STATUS_INVALID_ARGUMENT;
    OK(duly_token_new(&token));
    CHECK_STATUS(duly_pool_shutdown_on(pool, wrong, 2, LONG), invalid);
    CHECK_STATUS(duly_pool_shutdown_on(pool, &number, 1, LONG), invalid);
    CHECK_STATUS(duly_pool_shutdown_on(pool, both, SIZE_MAX, LONG), invalid);
    CHECK_STATUS(duly_pool_shutdown_on(pool, NULL, 1, LONG), none);
    CHECK_STATUS(duly_pool_shutdown_on(NULL, both, 2, LONG), none);
    CHECK_STATUS(duly_pool_shutdown_on((duly_pool *)(void *)token, both, 2, LONG), DULY_STATUS_FOREIGN_HANDLE);
    CHECK_STATUS(duly_pool_wait_shutdown(NULL, 0, NULL), none);
    CHECK(duly_pool_signal(NULL) == 0 && duly_pool_signal(pool) == 0);
    CHECK_STATUS(duly_token_cancel_on(token, both, 0), invalid);
    CHECK_STATUS(duly_token_cancel_on(token, NULL, 1), none);
    CHECK_STATUS(duly_token_cancel_on(token, wrong, 2), invalid);
    CHECK_STATUS(duly_token_cancel_on(NULL, both, 2), none);
    duly_token_release(token);
    end_pool(pool);
}

static void p11_in_a_forked_child_nobody_is_bound(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_token *token = NULL;
    int status = -1, ready[2];
    char byte;
    CHECK(pipe(ready) == 0);
    OK(duly_token_new(&token));
    OK(duly_pool_shutdown_on(pool, both, 2, LONG));
    OK(duly_token_cancel_on(token, both, 2));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(40);
        CHECK_STATUS(duly_pool_shutdown_on(pool, both, 2, LONG), DULY_STATUS_SHUT_DOWN);
        CHECK_STATUS(duly_pool_wait_shutdown(pool, DULY_FOREVER, NULL), DULY_STATUS_SHUT_DOWN);
        CHECK(duly_pool_signal(pool) == 0);
        OK(duly_token_cancel_on(token, both, 2));
        duly_token_release(token);
        duly_pool_release(pool);
        fflush(stdout);
        /* Closed at the end of the process, if not here. */
        if (!check_failed && write(ready[1], "", 1) == 1)
            pause_ns(LONG);
        _exit(1);
    }
    close(ready[1]);
    if (read(ready[0], &byte, 1) == 1)
        kill(child, LETHAL);
    close(ready[0]);
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == LETHAL);
    CHECK(duly_pool_signal(pool) == 0 && !duly_token_is_cancelled(token));
    raise(SIGTERM);
    OK(duly_pool_wait_shutdown(pool, LONG, NULL));
    OK(duly_token_wait(token, LONG));
    duly_token_release(token);
    duly_pool_release(pool);
}

static void p14_the_first_signal_drains(void) { CHECK(in_process(drains) == 0); }
static void p14_a_second_signal_abandons_at_once(void) { CHECK(in_process(second) == 0); }
static void p14_binding_again_replaces_what_was_bound(void) { CHECK(in_process(rebinds) == 0); }
static void p14_what_a_signal_does_by_default_comes_back(void) {
    CHECK(in_process(unbound) == -SIGTERM);
    CHECK(in_process(released) == -SIGINT);
}
static void p14_a_signal_cancels_a_token_and_says_which(void) { CHECK(in_process(tokens) == 0); }
static void p16_other_signals_are_refused(void) { CHECK(in_process(refused) == 0); }

MAIN(TEST(p14_the_first_signal_drains), TEST(p14_a_second_signal_abandons_at_once),
     TEST(p14_binding_again_replaces_what_was_bound), TEST(p14_what_a_signal_does_by_default_comes_back),
     TEST(p14_a_signal_cancels_a_token_and_says_which), TEST(p16_other_signals_are_refused),
     TEST(p11_in_a_forked_child_nobody_is_bound));
