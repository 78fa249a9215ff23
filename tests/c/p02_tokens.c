/* P2: a token answers all that was submitted under it, and its descriptor wakes a callback that waits in poll. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>

#include "check.h"

static duly_token *make_token(void) {
    duly_token *token = NULL;
    OK(duly_token_new(&token));
    return token;
}

static duly_task *submit_under(const duly_pool *pool, const duly_token *token, duly_run_fn run, void *data) {
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    duly_task *task = NULL;
    options.token = token;
    OK(duly_submit(pool, &options, run, data, NULL, &task));
    return task;
}

/* Whether it is readable within a span. */
static bool readable(int fd, int timeout_ms) {
    struct pollfd one = {fd, POLLIN, 0};
    int ready;
    do
        ready = poll(&one, 1, timeout_ms);
    while (ready < 0 && errno == EINTR);
    return ready == 1 && one.revents == POLLIN;
}

static int fd_of(const duly_token *token) {
    int fd = -1;
    OK(duly_token_fd(token, &fd));
    CHECK(fd >= 0);
    return fd;
}

static void p02_a_token_answers_queued_and_running_tasks_of_its_whole_tree(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_token *root = make_token(), *branch = NULL, *leaf = NULL, *other = make_token();
    gate door = GATE_INIT;
    OK(duly_token_child(root, &branch));
    OK(duly_token_child(branch, &leaf));
    duly_task *running = submit_under(pool, leaf, run_gate, &door);
    gate_wait_entered(&door, 1);
    duly_task *queued = submit_under(pool, branch, run_nothing, NULL);
    duly_task *stays = submit_under(pool, other, run_nothing, NULL);
    CHECK(!duly_token_is_cancelled(root) && !duly_token_is_cancelled(leaf));
    CHECK_TEXT(duly_token_reason(leaf), "");
    CHECK(duly_token_time_left(leaf) == DULY_FOREVER);
    OK(duly_token_cancel_with(root, "closing time"));
    OK(duly_token_cancel(root));
    duly_outcome outcome = 0;
    OK(duly_task_outcome(running, &outcome));
    CHECK(outcome == DULY_CANCELLED);
    OK(duly_task_outcome(queued, &outcome));
    CHECK(outcome == DULY_CANCELLED);
    CHECK_STATUS(duly_task_outcome(stays, &outcome), DULY_STATUS_PENDING);
    CHECK_TEXT(duly_task_reason(running), "closing time");
    CHECK_TEXT(duly_token_reason(leaf), "closing time");
    CHECK(duly_token_is_cancelled(leaf) && !duly_token_is_cancelled(other));
    OK(duly_token_wait(leaf, 0));
    CHECK_STATUS(duly_token_wait(other, MS), DULY_STATUS_TIMED_OUT);
    gate_open(&door);
    CHECK_OUTCOME(stays, DULY_SUCCEEDED);
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    options.token = leaf;
    probe seen = {0};
    CHECK_STATUS(duly_submit(pool, &options, run_probe, &seen, drop_probe, NULL), DULY_STATUS_CANCELLED);
    CHECK(seen.ran == 0 && seen.dropped == 0);
    duly_task_release(running);
    duly_task_release(queued);
    duly_task_release(stays);
    duly_token_release(root);
    duly_token_release(branch);
    duly_token_release(leaf);
    duly_token_release(other);
    end_pool(pool);
}

static void p02_a_descriptor_is_readable_once_its_token_is_cancelled_and_stays_so(void) {
    duly_token *root = make_token(), *child = NULL;
    OK(duly_token_child(root, &child));
    int fd = fd_of(child);
    CHECK(fd_of(child) == fd);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(!readable(fd, 0));
    OK(duly_token_cancel(root));
    CHECK(readable(fd, 0));
    CHECK(readable(fd, 0));
    /* One that is asked for later is readable at once. */
    CHECK(readable(fd_of(root), 0));
    duly_token *late = NULL;
    OK(duly_token_child(child, &late));
    CHECK(readable(fd_of(late), 0));
    duly_token_release(late);
    duly_token_release(root);
    CHECK(duly_token_retain(child) == child);
    duly_token_release(child);
    CHECK(readable(fd, 0));
    duly_token_release(child);
    CHECK(fcntl(fd, F_GETFD) == -1 && errno == EBADF);
}

static void p02_a_tokens_deadline_makes_its_descriptor_readable_and_never_early(void) {
    const uint64_t span = 30 * MS, began = now_ns();
    duly_token *token = NULL, *child = NULL;
    OK(duly_token_with_timeout(NULL, span, &token));
    OK(duly_token_with_timeout(token, LONG, &child));
    CHECK(duly_token_time_left(child) <= span);
    CHECK(readable(fd_of(child), (int)(LONG / MS)));
    uint64_t took = now_ns() - began;
    CHECK(took >= span && took < span + LATE);
    CHECK(duly_token_is_cancelled(token) && duly_token_is_cancelled(child));
    CHECK_TEXT(duly_token_reason(child), "deadline_exceeded");
    CHECK(duly_token_time_left(child) == 0);
    OK(duly_token_wait(child, 0));
    duly_token_release(token);
    duly_token_release(child);
}

/* What a callback that waits in poll saw. */
typedef struct {
    atomic_int entered;
    int32_t cause;
    char reason[40];
} poller;

static int32_t cause_of(const duly_call *call) {
    duly_outcome cause = 0;
    duly_status status = duly_call_cause(call, &cause);
    return status == DULY_STATUS_OK ? (int32_t)cause : 0;
}

/* Waits for a pipe that nobody writes to, and for its own cancellation. */
static int32_t run_poll(void *data, duly_call *call) {
    poller *me = data;
    duly_token *token = NULL;
    int fd = -1, silent[2];
    if (pipe(silent) != 0 || duly_call_token(call, &token) != DULY_STATUS_OK || duly_token_fd(token, &fd) != DULY_STATUS_OK)
        return 1;
    struct pollfd both[2] = {{silent[0], POLLIN, 0}, {fd, POLLIN, 0}};
    atomic_store(&me->entered, 1);
    int ready = poll(both, 2, (int)(LONG / MS));
    me->cause = cause_of(call);
    snprintf(me->reason, sizeof me->reason, "%s", duly_token_reason(token));
    duly_token_release(token);
    close(silent[0]);
    close(silent[1]);
    return ready == 1 && both[1].revents == POLLIN ? 0 : 2;
}

static int poll_begun(void *data) { return ((poller *)data)->entered; }

static void p02_a_callback_in_poll_is_woken_by_its_cancellation(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    for (int way = 0; way < 3; way++) {
        poller me = {0};
        duly_task_options options = DULY_TASK_OPTIONS_INIT;
        duly_token *token = make_token();
        uint64_t start;
        options.token = token;
        options.timeout_ns = way == 2 ? 300 * MS : 0;
        duly_task *task = submit_begun(pool, &options, &start, run_poll, &me, poll_begun);
        const uint64_t began = now_ns();
        if (way == 0)
            OK(duly_task_cancel_with(task, "left"));
        else if (way == 1)
            OK(duly_token_cancel(token));
        CHECK_OUTCOME(task, way == 2 ? DULY_DEADLINE_EXCEEDED : DULY_CANCELLED);
        OK(duly_task_wait_released(task, LONG));
        CHECK(now_ns() - began < LATE + options.timeout_ns);
        CHECK(me.cause == (way == 2 ? DULY_DEADLINE_EXCEEDED : DULY_CANCELLED));
        CHECK_TEXT(me.reason, way == 0 ? "left" : way == 1 ? "requested" : "deadline_exceeded");
        duly_task_release(task);
        duly_token_release(token);
    }
    end_pool(pool);
}

typedef struct {
    duly_pool *pool;
    gate *door;
    duly_task *inner;
} nest;

static int32_t run_submit_inner(void *data, duly_call *call) {
    nest *me = data;
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    duly_token *own = NULL;
    OK(duly_call_token(call, &own));
    /* From another thread the token would be named like this; here it is inherited all the same. */
    options.token = own;
    OK(duly_submit(me->pool, &options, run_gate, me->door, NULL, &me->inner));
    duly_token_release(own);
    return run_gate(me->door, call);
}

static void p02_what_a_callback_submits_stands_under_its_token(void) {
    duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
    gate door = GATE_INIT;
    nest me = {pool, &door, NULL};
    duly_task *outer = submit(pool, run_submit_inner, &me, NULL);
    gate_wait_entered(&door, 2);
    OK(duly_task_cancel(outer));
    CHECK_OUTCOME(me.inner, DULY_CANCELLED);
    gate_open(&door);
    OK(duly_task_wait_released(outer, LONG));
    OK(duly_task_wait_released(me.inner, LONG));
    duly_task_release(me.inner);
    duly_task_release(outer);
    end_pool(pool);
}

static void p05_tokens_leave_no_descriptor_behind(void) {
    int before = dup(0), after;
    CHECK(before >= 0);
    close(before);
    for (int i = 0; i < 2000; i++) {
        duly_token *root = make_token(), *child = NULL;
        OK(duly_token_child(root, &child));
        fd_of(child);
        if (i % 2)
            duly_token_release(root);
        fd_of(child);
        duly_token_release(child);
        if (i % 2 == 0)
            duly_token_release(root);
    }
    after = dup(0);
    CHECK(after == before);
    close(after);
}

MAIN(TEST(p02_a_token_answers_queued_and_running_tasks_of_its_whole_tree),
     TEST(p02_a_descriptor_is_readable_once_its_token_is_cancelled_and_stays_so),
     TEST(p02_a_tokens_deadline_makes_its_descriptor_readable_and_never_early),
     TEST(p02_a_callback_in_poll_is_woken_by_its_cancellation),
     TEST(p02_what_a_callback_submits_stands_under_its_token), TEST(p05_tokens_leave_no_descriptor_behind));
