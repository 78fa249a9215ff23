/* P3, P1, P5, P6, P9, P11, P12, P16: completion queues. However a task ends it is delivered once, by a step that waits for nobody; places
 * are taken by the submit and come back with the take; the descriptor is readable exactly while completions wait. */
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>

#include "check.h"

static duly_completions *make_completions(size_t capacity) {
    duly_completions *completions = NULL;
    OK(duly_completions_new(capacity, &completions));
    if (completions == NULL)
        exit(1);
    return completions;
}

static duly_task_options to(duly_completions *completions, uint64_t tag) {
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    options.completions = completions;
    options.tag = tag;
    return options;
}

static duly_task *submit_to(duly_pool *pool, const duly_task_options *options, duly_run_fn run, void *data) {
    duly_task *task = NULL;
    OK(duly_submit(pool, options, run, data, NULL, &task));
    return task;
}

static int readable(duly_completions *completions, int within_ms) {
    struct pollfd entry = {-1, POLLIN, 0};
    OK(duly_completions_fd(completions, &entry.fd));
    return poll(&entry, 1, within_ms) == 1 && (entry.revents & POLLIN) != 0;
}

/* The outcome of each tag below `count`, each of which comes once. */
static void take_all(duly_completions *completions, size_t count, duly_outcome *outcomes) {
    size_t seen = 0;
    memset(outcomes, 0, count * sizeof *outcomes);
    while (seen < count) {
        duly_completion taken[3];
        size_t came = 0;
        CHECK_STATUS(duly_completions_take(completions, LONG, taken, 3, &came), DULY_STATUS_OK);
        CHECK(came >= 1 && came <= 3);
        if (came == 0)
            return;
        for (size_t i = 0; i < came; i++) {
            CHECK(taken[i].tag < count && outcomes[taken[i].tag] == 0 && taken[i].reserved == 0);
            CHECK_OUTCOME(taken[i].task, taken[i].outcome);
            outcomes[taken[i].tag] = taken[i].outcome;
            duly_task_release(taken[i].task);
        }
        seen += came;
    }
}

static int32_t run_fails(void *data, duly_call *call) {
    (void)data;
    OK(duly_call_set_message(call, "as planned"));
    return 7;
}

static void p01_every_end_is_delivered_once(void) {
    duly_pool *pool = make_pool(1, 3, DULY_OVERFLOW_DROP_OLDEST);
    duly_completions *completions = make_completions(8);
    gate door = GATE_INIT;
    duly_task_options options = to(completions, 0);
    duly_task *running = submit_to(pool, &options, run_gate, &door);
    gate_wait_entered(&door, 1);
    duly_task *tasks[8] = {running};
    for (uint64_t tag = 1; tag <= 3; tag++) {
        options = to(completions, tag);
        tasks[tag] = submit_to(pool, &options, run_nothing, NULL);
    }
    options = to(completions, 4);
    options.timeout_ns = 20 * MS;
    tasks[4] = submit_to(pool, &options, run_nothing, NULL); /* sheds 1 */
    OK(duly_task_cancel(tasks[2]));
    CHECK_OUTCOME(tasks[4], DULY_DEADLINE_EXCEEDED);
    options = to(completions, 5);
    tasks[5] = submit_to(pool, &options, run_fails, NULL);
    gate_open(&door);
    OK(duly_task_wait(tasks[5], LONG, NULL));
    gate again = GATE_INIT;
    options = to(completions, 6);
    tasks[6] = submit_to(pool, &options, run_gate, &again);
    gate_wait_entered(&again, 1);
    options = to(completions, 7);
    tasks[7] = submit_to(pool, &options, run_nothing, NULL);
    OK(duly_pool_shutdown(pool, 0, NULL));
    duly_outcome outcomes[8];
    take_all(completions, 8, outcomes);
    const duly_outcome wanted[8] = {DULY_SUCCEEDED,         DULY_SHED,   DULY_CANCELLED, DULY_SUCCEEDED,
                                    DULY_DEADLINE_EXCEEDED, DULY_FAILED, DULY_ABANDONED, DULY_ABANDONED};
    for (size_t tag = 0; tag < 8; tag++) {
        CHECK(outcomes[tag] == wanted[tag]);
        duly_task_release(tasks[tag]);
    }
    duly_completion none;
    size_t count = 77;
    CHECK_STATUS(duly_completions_take(completions, 0, &none, 1, &count), DULY_STATUS_TIMED_OUT);
    CHECK(count == 77 && duly_completions_free_places(completions) == 8);
    gate_open(&again);
    CHECK(UNTIL(again.left == 1));
    duly_completions_release(completions);
    duly_pool_release(pool);
}

static void p01_the_completion_has_the_task_of_its_submit(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_completions *completions = make_completions(2);
    duly_task_options options = to(completions, UINT64_MAX);
    duly_task *task = submit_to(pool, &options, run_fails, NULL);
    duly_completion taken;
    size_t count = 0;
    OK(duly_completions_take(completions, LONG, &taken, 1, &count));
    CHECK(count == 1 && taken.task == task && taken.tag == UINT64_MAX && taken.outcome == DULY_FAILED);
    /* Both references say the same, and the message outlives either. */
    CHECK_TEXT(duly_task_message(taken.task), "as planned");
    duly_task_release(task);
    CHECK(duly_task_code(taken.task) == 7);
    CHECK_TEXT(duly_task_message(taken.task), "as planned");
    duly_task_release(taken.task);
    /* Nobody asked for a handle: there is one in the completion. */
    probe seen = {0};
    OK(duly_submit(pool, &options, run_probe, &seen, drop_probe, NULL));
    OK(duly_completions_take(completions, LONG, &taken, 1, &count));
    CHECK(taken.outcome == DULY_SUCCEEDED && seen.ran == 1 && seen.dropped == 1);
    duly_task_release(taken.task);
    duly_completions_release(completions);
    end_pool(pool);
}

static void p03_nobody_has_to_take(void) {
    enum { MANY = 2000 };
    duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
    duly_completions *completions = make_completions(MANY);
    static duly_outcome outcomes[MANY];
    for (uint64_t tag = 0; tag < MANY; tag++) {
        duly_task_options options = to(completions, tag);
        OK(duly_submit(pool, &options, run_nothing, NULL, NULL, NULL));
    }
    end_pool(pool);
    take_all(completions, MANY, outcomes);
    for (size_t tag = 0; tag < MANY; tag++)
        CHECK(outcomes[tag] == DULY_SUCCEEDED);
    duly_completions_release(completions);
}

static void p03_the_descriptor_is_readable_exactly_while_completions_wait(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_completions *completions = make_completions(2);
    duly_task_options options = to(completions, 1);
    duly_completion taken[2];
    size_t count = 0;
    int fd = -1, again = -2;
    OK(duly_completions_fd(completions, &fd));
    OK(duly_completions_fd(completions, &again));
    CHECK(fd == again && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK(!readable(completions, 0));
    OK(duly_submit(pool, &options, run_nothing, NULL, NULL, NULL));
    CHECK(readable(completions, (int)(LONG / MS)));
    duly_task *second = submit_to(pool, &options, run_nothing, NULL);
    CHECK_OUTCOME(second, DULY_SUCCEEDED);
    duly_task_release(second);
    CHECK(UNTIL(duly_completions_free_places(completions) == 0));
    OK(duly_completions_take(completions, 0, taken, 1, &count));
    CHECK(count == 1 && readable(completions, (int)(LONG / MS)));
    OK(duly_completions_take(completions, LONG, taken + 1, 1, &count));
    CHECK(count == 1 && !readable(completions, 0));
    duly_task_release(taken[0].task);
    duly_task_release(taken[1].task);
    duly_completions_release(completions);
    CHECK(fcntl(fd, F_GETFD) == -1);
    end_pool(pool);
}

static void p04_a_take_ends_with_its_time_out(void) {
    duly_completions *completions = make_completions(1);
    duly_completion taken;
    size_t count;
    const uint64_t began = now_ns();
    CHECK_STATUS(duly_completions_take(completions, 30 * MS, &taken, 1, &count), DULY_STATUS_TIMED_OUT);
    CHECK(now_ns() - began >= 30 * MS && now_ns() - began < LONG / 2);
    duly_completions_release(completions);
}

static void p05_a_place_is_taken_by_the_submit(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_completions *completions = make_completions(1);
    duly_task_options options = to(completions, 5);
    probe seen = {0};
    duly_completion taken;
    size_t count;
    duly_task *task = submit_to(pool, &options, run_nothing, NULL);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    duly_task_release(task);
    /* That it has ended does not give the place back. A refusal leaves user_data alone, and does not wait. */
    CHECK_STATUS(duly_submit(pool, &options, run_probe, &seen, drop_probe, NULL), DULY_STATUS_QUEUE_FULL);
    CHECK_STATUS(duly_try_submit(pool, &options, run_probe, &seen, drop_probe, NULL), DULY_STATUS_QUEUE_FULL);
    CHECK(seen.dropped == 0);
    OK(duly_completions_take(completions, LONG, &taken, 1, &count));
    duly_task_release(taken.task);
    OK(duly_submit(pool, &options, run_probe, &seen, drop_probe, NULL));
    OK(duly_completions_take(completions, LONG, &taken, 1, &count));
    CHECK(taken.tag == 5 && seen.ran == 1);
    duly_task_release(taken.task);
    /* A refusal for another reason gives the place back. */
    OK(duly_pool_close(pool));
    CHECK_STATUS(duly_submit(pool, &options, run_nothing, NULL, NULL, NULL), DULY_STATUS_SHUT_DOWN);
    CHECK(duly_completions_free_places(completions) == 1);
    duly_completions_release(completions);
    end_pool(pool);
}

typedef struct {
    probe value;
    gate *door;
} giver;

static int32_t run_gives(void *data, duly_call *call) {
    giver *me = data;
    if (me->door != NULL)
        run_gate(me->door, call);
    OK(duly_call_set_value(call, &me->value, drop_probe));
    return 0;
}

static void p06_what_nobody_took_goes_with_the_queue_and_what_comes_later_too(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_completions *completions = make_completions(3);
    gate door = GATE_INIT;
    giver waits = {{0}, NULL}, comes = {{0}, &door};
    duly_task_options options = to(completions, 0);
    OK(duly_submit(pool, &options, run_gives, &waits, NULL, NULL));
    CHECK(readable(completions, (int)(LONG / MS)));
    OK(duly_submit(pool, &options, run_gives, &comes, NULL, NULL));
    gate_wait_entered(&door, 1);
    CHECK(waits.value.dropped == 0);
    CHECK(duly_completions_retain(completions) == completions);
    duly_completions_release(completions);
    CHECK(waits.value.dropped == 0);
    duly_completions_release(completions);
    CHECK(waits.value.dropped == 1);
    gate_open(&door);
    end_pool(pool);
    CHECK(UNTIL(comes.value.dropped == 1));
}

static void p12_the_books_count_each_once(void) {
    duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
    duly_completions *completions = make_completions(10);
    duly_stats stats;
    duly_outcome outcomes[10];
    for (uint64_t tag = 0; tag < 10; tag++) {
        duly_task_options options = to(completions, tag);
        OK(duly_submit(pool, &options, tag % 2 ? run_fails : run_nothing, NULL, NULL, NULL));
    }
    take_all(completions, 10, outcomes);
    OK(duly_pool_stats(pool, &stats, sizeof stats));
    CHECK(duly_stats_balance(&stats) && stats.submitted == 10 && stats.succeeded == 5 && stats.failed == 5);
    /* Whoever takes a failure has looked at it. */
    CHECK(stats.unobserved == 0);
    duly_completions_release(completions);
    end_pool(pool);
}

static int in_child(duly_completions *completions) {
    duly_completion taken;
    size_t count;
    int fd;
    const uint64_t began = now_ns();
    CHECK_STATUS(duly_completions_take(completions, DULY_FOREVER, &taken, 1, &count), DULY_STATUS_SHUT_DOWN);
    CHECK_STATUS(duly_completions_fd(completions, &fd), DULY_STATUS_SHUT_DOWN);
    CHECK(now_ns() - began < LONG / 2);
    duly_pool *own = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_task_options options = to(completions, 1);
    CHECK_STATUS(duly_submit(own, &options, run_nothing, NULL, NULL, NULL), DULY_STATUS_SHUT_DOWN);
    duly_completions_release(completions);
    end_pool(own);
    fflush(stdout);
    return check_failed;
}

static void p11_an_inherited_queue_answers_in_a_forked_child(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_completions *completions = make_completions(2);
    duly_task_options options = to(completions, 0);
    duly_outcome outcome;
    int status = -1;
    OK(duly_submit(pool, &options, run_nothing, NULL, NULL, NULL));
    CHECK(readable(completions, (int)(LONG / MS)));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        _exit(in_child(completions));
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    /* The parent's descriptor and what waits are as they were. */
    CHECK(readable(completions, 0));
    take_all(completions, 1, &outcome);
    CHECK(outcome == DULY_SUCCEEDED && !readable(completions, 0));
    duly_completions_release(completions);
    end_pool(pool);
}

static void p16_bad_input_is_an_error(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_completions *completions = make_completions(1), *unwritten = NULL;
    duly_completion taken;
    size_t count = 0;
    int fd = -7;
    CHECK_STATUS(duly_completions_new(0, &unwritten), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_completions_new(1, NULL), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_completions_fd(NULL, &fd), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_completions_fd(completions, NULL), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_completions_fd((duly_completions *)pool, &fd), DULY_STATUS_FOREIGN_HANDLE);
    CHECK_STATUS(duly_completions_take(NULL, 0, &taken, 1, &count), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_completions_take(completions, 0, NULL, 1, &count), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_completions_take(completions, 0, &taken, 1, NULL), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_completions_take(completions, 0, &taken, 0, &count), DULY_STATUS_INVALID_ARGUMENT);
    CHECK(unwritten == NULL && fd == -7 && count == 0);
    CHECK(duly_completions_free_places(NULL) == 0 && duly_completions_retain(NULL) == NULL);
    duly_completions_release(NULL);
    duly_task_options options = to((duly_completions *)pool, 1);
    CHECK_STATUS(duly_submit(pool, &options, run_nothing, NULL, NULL, NULL), DULY_STATUS_FOREIGN_HANDLE);
    duly_completions_release(completions);
    /* As many places as there are numbers: they are counted, not made. */
    OK(duly_completions_new(SIZE_MAX, &completions));
    options = to(completions, 1);
    OK(duly_submit(pool, &options, run_nothing, NULL, NULL, NULL));
    OK(duly_completions_take(completions, LONG, &taken, SIZE_MAX, &count));
    CHECK(count == 1);
    duly_task_release(taken.task);
    duly_completions_release(completions);
    end_pool(pool);
}

MAIN(TEST(p01_every_end_is_delivered_once), TEST(p01_the_completion_has_the_task_of_its_submit), TEST(p03_nobody_has_to_take),
     TEST(p03_the_descriptor_is_readable_exactly_while_completions_wait), TEST(p04_a_take_ends_with_its_time_out),
     TEST(p05_a_place_is_taken_by_the_submit), TEST(p06_what_nobody_took_goes_with_the_queue_and_what_comes_later_too),
     TEST(p12_the_books_count_each_once), TEST(p11_an_inherited_queue_answers_in_a_forked_child),
     TEST(p16_bad_input_is_an_error));
