/* P11: in a forked child every call on inherited handles answers at once, and a new pool works. */
#include <poll.h>
#include <sys/wait.h>

#include "check.h"

/* What the child expects: an exit status of 0. */
static int in_child(duly_pool *pool, duly_task *stuck, duly_task *ended) {
    duly_outcome outcome = DULY_SUCCEEDED;
    duly_task *task = NULL;
    duly_report *report = NULL;
    duly_pool *own = NULL;
    void *value = NULL;
    OK(duly_task_wait(stuck, DULY_FOREVER, &outcome));
    CHECK(outcome == DULY_ABANDONED);
    OK(duly_task_wait_released(stuck, DULY_FOREVER));
    CHECK_STATUS(duly_task_take(stuck, &value), DULY_STATUS_NO_VALUE);
    CHECK_OUTCOME(ended, DULY_SUCCEEDED);
    CHECK_STATUS(duly_submit(pool, NULL, run_nothing, NULL, NULL, &task), DULY_STATUS_SHUT_DOWN);
    OK(duly_pool_close(pool));
    OK(duly_pool_shutdown(pool, DULY_FOREVER, &report));
    duly_report_release(report);
    duly_task_release(stuck);
    duly_task_release(ended);
    duly_pool_release(pool);
    OK(duly_pool_new(NULL, &own));
    task = submit(own, run_nothing, NULL, NULL);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    duly_task_release(task);
    end_pool(own);
    fflush(stdout);
    return check_failed;
}

static void p11_nothing_inherited_hangs_in_a_forked_child(void) {
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_pool *pool = NULL;
    gate door = GATE_INIT;
    int status = -1;
    options.workers = 2;
    OK(duly_pool_new(&options, &pool));
    duly_task *stuck = submit(pool, run_gate, &door, NULL);
    duly_task *ended = submit(pool, run_nothing, NULL, NULL);
    CHECK_OUTCOME(ended, DULY_SUCCEEDED);
    gate_wait_entered(&door, 1);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        _exit(in_child(pool, stuck, ended));
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    gate_open(&door);
    CHECK_OUTCOME(stuck, DULY_SUCCEEDED);
    duly_task_release(stuck);
    duly_task_release(ended);
    end_pool(pool);
}

static bool readable(int fd) {
    struct pollfd one = {fd, POLLIN, 0};
    return poll(&one, 1, 0) == 1;
}

/* What a pool has besides tasks. */
typedef struct {
    duly_pool *pool;
    duly_token *token, *unasked;
    duly_queue *queue;
    duly_periodic *periodic;
    int fd;
} things;

static int things_in_child(things *my) {
    duly_queue_numbers numbers = {0};
    duly_periodic_numbers done = {0};
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    duly_periodic_options every = DULY_PERIODIC_OPTIONS_INIT;
    duly_leaks *leaks = NULL;
    duly_token *child = NULL;
    duly_pool *own = NULL;
    duly_task *task = NULL;
    int fd = -1, other = -1;
    int32_t end = 0;
    CHECK(duly_pool_is_inherited(my->pool));
    CHECK(duly_token_is_cancelled(my->token));
    CHECK_TEXT(duly_token_reason(my->token), "forked");
    OK(duly_token_wait(my->token, DULY_FOREVER));
    /* A descriptor of its own: the parent's is not touched. */
    OK(duly_token_fd(my->token, &fd));
    OK(duly_token_fd(my->token, &other));
    CHECK(fd != my->fd && fd == other && readable(fd) && !readable(my->fd));
    OK(duly_token_fd(my->unasked, &other));
    CHECK(readable(other));
    OK(duly_token_cancel(my->token));
    CHECK(!readable(my->fd));
    OK(duly_token_child(my->token, &child));
    CHECK(duly_token_is_cancelled(child));
    OK(duly_queue_stats(my->queue, &numbers, sizeof numbers));
    OK(duly_queue_pause(my->queue));
    OK(duly_queue_resume(my->queue));
    CHECK_STATUS(duly_queue_set_limit(my->queue, 1), DULY_STATUS_SHUT_DOWN);
    OK(duly_pool_pause(my->pool));
    OK(duly_pool_resume(my->pool));
    CHECK_STATUS(duly_pool_set_workers(my->pool, 3), DULY_STATUS_SHUT_DOWN);
    CHECK_STATUS(duly_pool_add_queue(my->pool, NULL, &my->queue), DULY_STATUS_SHUT_DOWN);
    OK(duly_periodic_wait(my->periodic, DULY_FOREVER, &end));
    CHECK(end == DULY_PERIODIC_SHUT_DOWN);
    OK(duly_periodic_stats(my->periodic, &done, sizeof done));
    CHECK_STATUS(duly_periodic_cancel(my->periodic), DULY_STATUS_ENDED);
    every.period_ns = MS;
    CHECK_STATUS(duly_pool_every(my->pool, &every, run_nothing, NULL, NULL, NULL), DULY_STATUS_SHUT_DOWN);
    OK(duly_pool_leaks(my->pool, &leaks));
    duly_leaks_release(leaks);
    /* What is new works, and refuses what is inherited. */
    OK(duly_pool_new(NULL, &own));
    CHECK(!duly_pool_is_inherited(own));
    options.token = my->token;
    CHECK_STATUS(duly_submit(own, &options, run_nothing, NULL, NULL, NULL), DULY_STATUS_CANCELLED);
    options.token = NULL;
    options.queue = my->queue;
    CHECK_STATUS(duly_submit(own, &options, run_nothing, NULL, NULL, NULL), DULY_STATUS_INVALID_ARGUMENT);
    task = submit(own, run_nothing, NULL, NULL);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    duly_task_release(task);
    end_pool(own);
    duly_token_release(child);
    duly_token_release(my->token);
    duly_token_release(my->unasked);
    duly_queue_release(my->queue);
    duly_periodic_release(my->periodic);
    duly_pool_release(my->pool);
    fflush(stdout);
    return check_failed;
}

static void p11_tokens_queues_and_periodic_tasks_answer_in_a_forked_child(void) {
    duly_periodic_options every = DULY_PERIODIC_OPTIONS_INIT;
    things my = {.pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT), .fd = -1};
    duly_queue_options options = DULY_QUEUE_OPTIONS_INIT;
    duly_periodic_numbers done = {0};
    uint64_t before;
    int status = -1;
    options.name = "theirs";
    every.period_ns = MS;
    OK(duly_pool_add_queue(my.pool, &options, &my.queue));
    OK(duly_token_new(&my.token));
    OK(duly_token_new(&my.unasked));
    OK(duly_token_fd(my.token, &my.fd));
    OK(duly_pool_every(my.pool, &every, run_nothing, NULL, NULL, &my.periodic));
    CHECK(!duly_pool_is_inherited(my.pool) && !duly_pool_is_inherited(NULL));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        _exit(things_in_child(&my));
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(!duly_token_is_cancelled(my.token) && !readable(my.fd));
    OK(duly_periodic_stats(my.periodic, &done, sizeof done));
    before = done.runs;
    CHECK(UNTIL(duly_periodic_stats(my.periodic, &done, sizeof done) == DULY_STATUS_OK && done.runs > before));
    OK(duly_token_cancel(my.token));
    CHECK(readable(my.fd));
    duly_periodic_release(my.periodic);
    duly_queue_release(my.queue);
    duly_token_release(my.token);
    duly_token_release(my.unasked);
    end_pool(my.pool);
}

MAIN(TEST(p11_nothing_inherited_hangs_in_a_forked_child),
     TEST(p11_tokens_queues_and_periodic_tasks_answer_in_a_forked_child));
