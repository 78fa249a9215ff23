/* P7: a failure is an outcome with its code and message; what cannot be survived aborts, with a message. */
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
        while (duly_task_outcome(task, NULL) == DULY_STATUS_PENDING) {
        }
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
    CHECK(strstr(words, "the run function of a task was left by an exception, pthread_exit") != NULL);
}

int main(int argc, char **argv) {
    if (argc > 1)
        return child();
    program = argv[0];
    const test tests[] = {TEST(p07_the_status_that_run_returns_is_the_code_of_the_failure),
                          TEST(p07_the_message_is_copied_and_every_reader_sees_it),
                          TEST(p07_a_failure_is_whole_as_soon_as_there_is_an_outcome),
                          TEST(p07_a_worker_outlives_every_failure),
                          TEST(p07_a_callback_that_ends_its_thread_aborts_with_a_message)};
    return run_tests(tests, sizeof tests / sizeof tests[0]);
}
