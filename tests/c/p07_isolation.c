/* P7: a failure is an outcome with its code, message and object; what cannot be survived aborts, with a message. */
#include <setjmp.h>
#include <sys/wait.h>

#include "check.h"

static int32_t run_code(void *data, duly_call *call) {
    (void)call;
    return *(int32_t *)data;
}

static void p07_the_status_that_run_returns_is_the_code_of_the_failure(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    int32_t codes[] = {1, -1, 42, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        duly_task *task = submit(pool, run_code, &codes[i], NULL);
        CHECK_OUTCOME(task, DULY_FAILED);
        CHECK(duly_task_code(task) == codes[i]);
        CHECK_TEXT(duly_task_message(task), "");
        CHECK_TEXT(duly_task_reason(task), "");
        duly_task_release(task);
    }
    duly_task *good = submit(pool, run_nothing, NULL, NULL);
    CHECK_OUTCOME(good, DULY_SUCCEEDED);
    CHECK(duly_task_code(good) == 0);
    duly_task_release(good);
    end_pool(pool);
}

static int32_t run_message(void *data, duly_call *call) {
    char words[] = "first";
    OK(duly_call_set_message(call, words));
    OK(duly_call_set_message(call, NULL));
    memcpy(words, "wrong", sizeof words);
    if (data != NULL) {
        char copied[] = "no such file: \xc3\xa9t\xe9";
        OK(duly_call_set_message(call, copied));
        memset(copied, 'x', sizeof copied - 1);
    }
    return 7;
}

static void p07_the_message_is_copied_and_every_reader_sees_it(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_task *task = submit(pool, run_message, "yes", NULL);
    duly_task *silent = submit(pool, run_message, NULL, NULL);
    void *value = NULL;
    CHECK_OUTCOME(task, DULY_FAILED);
    CHECK_STATUS(duly_task_take(task, &value), DULY_STATUS_NO_VALUE);
    const char *message = duly_task_message(task);
    CHECK_TEXT(message, "no such file: \xc3\xa9t\xef\xbf\xbd");
    CHECK(duly_task_message(task) == message);
    CHECK(duly_task_code(task) == 7);
    CHECK_OUTCOME(task, DULY_FAILED);
    CHECK_OUTCOME(silent, DULY_FAILED);
    CHECK_TEXT(duly_task_message(silent), "");
    end_pool(pool);
    CHECK_TEXT(message, "no such file: \xc3\xa9t\xef\xbf\xbd");
    duly_task_release(task);
    duly_task_release(silent);
}

static void p07_a_failure_is_whole_as_soon_as_there_is_an_outcome(void) {
    duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
    for (int i = 0; i < 3000; i++) {
        duly_task *task = submit(pool, run_message, "yes", NULL);
        /* Without the yield one who runs one thread at a time, as valgrind does, waits for the end of each turn. */
        while (duly_task_outcome(task, NULL) == DULY_STATUS_PENDING)
            sched_yield();
        CHECK(duly_task_code(task) == 7);
        CHECK_TEXT(duly_task_message(task), "no such file: \xc3\xa9t\xef\xbf\xbd");
        duly_task_release(task);
    }
    end_pool(pool);
}

static void p07_a_worker_outlives_every_failure(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    int32_t code = 3;
    probe seen = {0};
    for (int i = 0; i < 100; i++)
        OK(duly_submit(pool, NULL, run_code, &code, NULL, NULL));
    OK(duly_submit(pool, NULL, run_probe, &seen, drop_probe, NULL));
    end_pool(pool);
    CHECK(seen.ran == 1);
}

/* An object of a failure, and another function that releases such. */
typedef struct {
    atomic_int dropped, other;
    int32_t code;
} attached;

static void drop_attached(void *data) {
    atomic_fetch_add(&((attached *)data)->dropped, 1);
}

static void drop_otherwise(void *data) {
    atomic_fetch_add(&((attached *)data)->other, 1);
}

static int32_t run_attached(void *data, duly_call *call) {
    attached *me = data;
    OK(duly_call_set_failure(call, me, drop_otherwise));
    OK(duly_call_set_failure(call, me, drop_attached));
    if (me->code == 7)
        OK(duly_call_set_message(call, "planted"));
    CHECK(me->other == 1);
    return me->code;
}

static void p07_a_failure_carries_an_object_that_every_handle_has(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    attached me = {.code = 7};
    void *object = NULL;
    duly_task *task = submit(pool, run_attached, &me, NULL), *other = duly_task_retain(task);
    CHECK_OUTCOME(task, DULY_FAILED);
    OK(duly_task_failure(task, drop_attached, &object));
    CHECK(object == &me);
    object = NULL;
    OK(duly_task_failure(other, drop_attached, &object));
    CHECK(object == &me && duly_task_code(task) == 7);
    CHECK_TEXT(duly_task_message(other), "planted");
    /* Its drop says what it is. */
    object = NULL;
    CHECK_STATUS(duly_task_failure(task, drop_otherwise, &object), DULY_STATUS_NO_VALUE);
    CHECK_STATUS(duly_task_failure(task, NULL, &object), DULY_STATUS_NO_VALUE);
    CHECK_STATUS(duly_task_failure(task, drop_attached, NULL), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_task_failure(NULL, drop_attached, &object), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_task_failure((duly_task *)pool, drop_attached, &object), DULY_STATUS_FOREIGN_HANDLE);
    CHECK_STATUS(duly_call_set_failure(NULL, &me, drop_attached), DULY_STATUS_NULL_ARGUMENT);
    CHECK(object == NULL);
    duly_task_release(task);
    CHECK(me.dropped == 0);
    duly_task_release(other);
    CHECK(UNTIL(me.dropped == 1));
    end_pool(pool);
}

static void p06_the_object_of_a_failure_goes_once_however_the_task_ends(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    attached good = {.code = 0}, unseen = {.code = 3};
    void *object = NULL;
    /* Not a failure. */
    duly_task *task = submit(pool, run_attached, &good, NULL);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    CHECK(UNTIL(good.dropped == 1));
    CHECK_STATUS(duly_task_failure(task, drop_attached, &object), DULY_STATUS_NO_VALUE);
    duly_task_release(task);
    /* Nobody looks. */
    task = submit(pool, run_attached, &unseen, NULL);
    OK(duly_task_wait_released(task, LONG));
    duly_task_release(task);
    CHECK(UNTIL(unseen.dropped == 1));
    /* In a group, the errors of the result have it too. */
    attached member = {.code = 5};
    duly_group *group = NULL;
    duly_group_result *result = NULL;
    OK(duly_group_new(pool, NULL, &group));
    OK(duly_group_submit(group, NULL, run_attached, &member, NULL, NULL));
    OK(duly_group_wait(group, DULY_FOREVER, &result));
    OK(duly_task_failure(duly_group_result_error(result, 0, NULL), drop_attached, &object));
    CHECK(object == &member && member.dropped == 0);
    duly_group_result_release(result);
    duly_group_release(group);
    CHECK(UNTIL(member.dropped == 1));
    gate door = GATE_INIT;
    task = submit(pool, run_gate, &door, NULL);
    CHECK_STATUS(duly_task_failure(task, drop_attached, &object), DULY_STATUS_PENDING);
    gate_open(&door);
    duly_task_release(task);
    end_pool(pool);
    CHECK(good.dropped == 1 && unseen.dropped == 1 && member.dropped == 1);
}

static int32_t run_jump(void *data, duly_call *call) {
    static jmp_buf back;
    (void)call;
    if (setjmp(back) == 0)
        longjmp(back, 1);
    atomic_fetch_add((atomic_int *)data, 1);
    return 0;
}

static void p07_a_longjmp_that_stays_inside_run_is_its_own_business(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    atomic_int jumped = 0;
    duly_task *task = submit(pool, run_jump, &jumped, NULL);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    CHECK(jumped == 1);
    duly_task_release(task);
    end_pool(pool);
}

static int32_t run_pthread_exit(void *data, duly_call *call) {
    (void)call;
    pthread_exit(data);
}

/* What a child of this program does instead of the tests. */
static int child(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_task *task = submit(pool, run_pthread_exit, NULL, NULL);
    duly_task_wait(task, LONG, NULL);
    return 0;
}

static const char *program;

static void p07_a_callback_that_ends_its_thread_aborts_with_a_message(void) {
    int ends[2];
    char words[512] = "";
    size_t length = 0;
    int status = 0;
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl(program, program, "child", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    for (ssize_t got; length < sizeof words - 1 && (got = read(ends[0], words + length, sizeof words - 1 - length)) > 0;)
        length += (size_t)got;
    close(ends[0]);
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    CHECK(strstr(words, "the run function was left by an exception, pthread_exit") != NULL);
}

int main(int argc, char **argv) {
    if (argc > 1)
        return child();
    program = argv[0];
    const test tests[] = {TEST(p07_the_status_that_run_returns_is_the_code_of_the_failure),
                          TEST(p07_the_message_is_copied_and_every_reader_sees_it),
                          TEST(p07_a_failure_is_whole_as_soon_as_there_is_an_outcome),
                          TEST(p07_a_worker_outlives_every_failure),
                          TEST(p07_a_failure_carries_an_object_that_every_handle_has),
                          TEST(p06_the_object_of_a_failure_goes_once_however_the_task_ends),
                          TEST(p07_a_longjmp_that_stays_inside_run_is_its_own_business),
                          TEST(p07_a_callback_that_ends_its_thread_aborts_with_a_message)};
    return run_tests(tests, sizeof tests / sizeof tests[0]);
}
