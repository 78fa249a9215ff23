/* P7, what cannot be survived: every way to leave a function of the caller's other than by returning ends the process, at once
 * (after longjmp: as soon as the thread comes to duly again), with a message that names the function; so does a stack that
 * overflows, by its signal. Each is a child of this program. */
#include <setjmp.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "check.h"

static const char *program;

__attribute__((noreturn)) static void end_thread(void) {
    pthread_exit(NULL);
}

static void cancel_thread(void) {
    pthread_cancel(pthread_self());
    pthread_testcancel();
}

static int32_t run_end_thread(void *data, duly_call *call) {
    (void)data;
    (void)call;
    end_thread();
}

static int32_t run_cancel_thread(void *data, duly_call *call) {
    (void)data;
    (void)call;
    cancel_thread();
    return 0;
}

static void drop_end_thread(void *data) {
    (void)data;
    end_thread();
}

static void drop_cancel_thread(void *data) {
    (void)data;
    cancel_thread();
}

static void tell_end_thread(void *data, duly_outcome outcome) {
    (void)data;
    (void)outcome;
    end_thread();
}

static int32_t run_on_cancel(void *data, duly_call *call) {
    duly_call_on_cancel(call, tell_end_thread, NULL, NULL);
    return run_gate(data, call);
}

static void hook_end_thread(void *data, const duly_event *event) {
    (void)data;
    if (event->kind == DULY_EVENT_UNOBSERVED)
        end_thread();
}

static void log_end_thread(void *data, int32_t level, const char *line) {
    (void)data;
    (void)level;
    (void)line;
    end_thread();
}

static void *capture_end_thread(void *data) {
    (void)data;
    end_thread();
}

static void *capture_itself(void *data) {
    return data;
}

static void *enter_end_thread(void *data, void *captured) {
    (void)data;
    (void)captured;
    end_thread();
}

static void exit_end_thread(void *data, void *captured, void *entered) {
    (void)data;
    (void)captured;
    (void)entered;
    end_thread();
}

static void release_end_thread(void *data, void *captured) {
    (void)data;
    (void)captured;
    end_thread();
}

static bool next_end_thread(void *data, void **item) {
    (void)data;
    (void)item;
    end_thread();
}

static int32_t run_item(void *data, void *item, duly_call *call) {
    (void)data;
    (void)item;
    (void)call;
    return 0;
}

static void submitted_end_thread(void *data, duly_status status, duly_task *task) {
    (void)data;
    (void)status;
    (void)task;
    end_thread();
}

static int32_t run_fail(void *data, duly_call *call) {
    (void)data;
    (void)call;
    return 1;
}

static int32_t run_abort(void *data, duly_call *call) {
    (void)data;
    (void)call;
    abort();
}

static jmp_buf before;

static int32_t run_jump(void *data, duly_call *call) {
    (void)data;
    (void)call;
    longjmp(before, 1);
}

/* Jumps out of what its own wait runs. */
static int32_t run_jump_over(void *pool, duly_call *call) {
    (void)call;
    if (setjmp(before) == 0)
        duly_task_wait(submit(pool, run_jump, NULL, NULL), DULY_FOREVER, NULL);
    return 0;
}

static volatile int deep_enough = 0;
static int deeper(volatile char *above) {
    volatile char here[4096];
    here[0] = (char)(above[0] + 1);
    return deep_enough ? 0 : deeper(here) + here[0];
}

static int32_t run_overflow(void *data, duly_call *call) {
    volatile char here[1] = {0};
    (void)data;
    (void)call;
    return deeper(here);
}

/* A pool whose own functions end their thread. */
static duly_pool *make_odd_pool(const char *way) {
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_pool *pool = NULL;
    options.workers = 1;
    options.capacity = 1;
    options.carry_data = &options;
    if (strncmp(way, "longjmp", 7) == 0) {
        /* Its one worker runs what it waits for. */
        options.capacity = 2;
        options.max_replacements = DULY_NONE;
    }
    if (strncmp(way, "longjmp out of", 14) == 0)
        options.overflow = DULY_OVERFLOW_CALLER_RUNS;
    if (strcmp(way, "pthread_exit in hook") == 0)
        options.hook = hook_end_thread;
    if (strcmp(way, "pthread_exit in capture") == 0)
        options.carry_capture = capture_end_thread;
    if (strncmp(way, "pthread_exit in carry", 21) == 0)
        options.carry_capture = capture_itself;
    if (strcmp(way, "pthread_exit in carry_enter") == 0)
        options.carry_enter = enter_end_thread;
    if (strcmp(way, "pthread_exit in carry_exit") == 0)
        options.carry_exit = exit_end_thread;
    if (strcmp(way, "pthread_exit in carry_release") == 0)
        options.carry_release = release_end_thread;
    OK(duly_pool_new(&options, &pool));
    return pool;
}

/* What a child of this program does instead of the tests: it has to be over before it returns. */
static int child(const char *way) {
    static gate never = GATE_INIT;
    duly_pool *pool = make_odd_pool(way);
    duly_task *task = NULL;
    duly_run_fn run = run_nothing;
    duly_drop_fn drop = NULL;
    void *data = pool;
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    if (strcmp(way, "pthread_exit in run") == 0)
        run = run_end_thread;
    if (strcmp(way, "cancellation in run") == 0)
        run = run_cancel_thread;
    if (strcmp(way, "pthread_exit in drop") == 0)
        drop = drop_end_thread;
    if (strcmp(way, "cancellation in drop") == 0)
        drop = drop_cancel_thread;
    if (strcmp(way, "overflow in run") == 0)
        run = run_overflow;
    if (strcmp(way, "longjmp over a run") == 0)
        run = run_jump_over;
    if (strncmp(way, "longjmp out of", 14) == 0) {
        OK(duly_submit(pool, NULL, run_gate, &never, NULL, NULL));
        gate_wait_entered(&never, 1);
        OK(duly_submit(pool, NULL, run_nothing, NULL, NULL, NULL));
        OK(duly_submit(pool, NULL, run_nothing, NULL, NULL, NULL));
        if (setjmp(before) == 0)
            OK(duly_submit(pool, NULL, run_jump, NULL, NULL, NULL));
        if (strstr(way, "then a call"))
            OK(duly_pool_pause(pool));
    }
    if (strcmp(way, "abort in run") == 0)
        run = run_abort;
    if (strcmp(way, "pthread_exit in log") == 0)
        OK(duly_set_log(log_end_thread, NULL, NULL));
    if (strcmp(way, "pthread_exit in hook") == 0 || strcmp(way, "pthread_exit in log") == 0) {
        OK(duly_submit(pool, NULL, run_fail, NULL, NULL, NULL));
        pause_ns(LONG);
    }
    if (strcmp(way, "pthread_exit in next") == 0) {
        duly_stream *stream = NULL;
        OK(duly_stream_new(pool, NULL, next_end_thread, NULL, NULL, run_item, NULL, NULL, &stream));
        return duly_stream_next(stream, LONG, &task);
    }
    if (strcmp(way, "pthread_exit in submitted") == 0) {
        OK(duly_submit(pool, NULL, run_gate, &never, NULL, NULL));
        gate_wait_entered(&never, 1);
        OK(duly_submit(pool, NULL, run_nothing, NULL, NULL, NULL));
        CHECK_STATUS(duly_submit_async(pool, NULL, run_nothing, NULL, NULL, submitted_end_thread, NULL, NULL),
                     DULY_STATUS_PENDING);
        gate_open(&never);
        pause_ns(LONG);
    }
    if (strncmp(way, "pthread_exit in on_c", 20) == 0) {
        run = strcmp(way, "pthread_exit in on_cancel") == 0 ? run_on_cancel : run_gate;
        data = &never;
    }
    task = submit(pool, run, data, drop);
    if (data == &never) {
        gate_wait_entered(&never, 1);
        if (run == run_gate)
            OK(duly_task_on_complete(task, tell_end_thread, NULL, NULL));
        duly_task_cancel(task);
    }
    duly_task_wait_released(task, LONG);
    return 0;
}

/* How the child ended, and what it said. */
static int ends(const char *way, char *words, size_t room) {
    int pipe_ends[2], status = 0;
    size_t length = 0;
    CHECK(pipe(pipe_ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        /* What is left when it ends like this is nobody's leak, and its signal is what is looked at. */
        setenv("ASAN_OPTIONS", "detect_leaks=0:handle_segv=0:handle_abort=0", 1);
        setenv("TSAN_OPTIONS", "handle_segv=0:handle_abort=0", 1);
        dup2(pipe_ends[1], STDERR_FILENO);
        close(pipe_ends[0]);
        close(pipe_ends[1]);
        alarm(30);
        execl(program, program, way, (char *)NULL);
        _exit(127);
    }
    close(pipe_ends[1]);
    for (ssize_t got; length < room - 1 && (got = read(pipe_ends[0], words + length, room - 1 - length)) > 0;)
        length += (size_t)got;
    words[length] = '\0';
    close(pipe_ends[0]);
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

static void aborts_naming(const char *way, const char *named) {
    char words[1024], wanted[128];
    const uint64_t began = now_ns();
    int status = ends(way, words, sizeof words);
    snprintf(wanted, sizeof wanted, "duly: the %s function was left by %s", named,
             strncmp(way, "longjmp", 7) == 0 ? "longjmp" : "an exception, pthread_exit or thread cancellation");
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT || strstr(words, wanted) == NULL) {
        printf("  %s: wait status %d, it said: %s\n", way, status, words);
        CHECK(!"it aborts and names the function");
    }
    CHECK(now_ns() - began < LONG / 2);
}

static void p07_a_run_that_ends_its_thread_aborts_with_its_name(void) {
    aborts_naming("pthread_exit in run", "run");
    aborts_naming("cancellation in run", "run");
}

static void p07_a_longjmp_out_of_a_callback_aborts_with_its_name(void) {
    aborts_naming("longjmp over a run", "run");
    aborts_naming("longjmp out of run", "run");
    aborts_naming("longjmp out of run, then a call", "run");
}

static void p07_a_drop_that_ends_its_thread_aborts_with_its_name(void) {
    aborts_naming("pthread_exit in drop", "drop");
    aborts_naming("cancellation in drop", "drop");
}

static void p07_a_completion_callback_that_ends_its_thread_aborts_with_its_name(void) {
    aborts_naming("pthread_exit in on_complete", "completion");
}

static void p07_a_cancel_hook_that_ends_its_thread_aborts_with_its_name(void) {
    aborts_naming("pthread_exit in on_cancel", "on_cancel");
}

static void p07_hooks_of_a_pool_that_end_their_thread_abort_with_their_name(void) {
    aborts_naming("pthread_exit in hook", "hook");
    aborts_naming("pthread_exit in log", "log");
    aborts_naming("pthread_exit in capture", "capture");
    aborts_naming("pthread_exit in carry_enter", "enter");
    aborts_naming("pthread_exit in carry_exit", "exit");
    aborts_naming("pthread_exit in carry_release", "release");
}

static void p07_what_feeds_a_stream_or_is_told_of_a_submit_aborts_with_its_name(void) {
    aborts_naming("pthread_exit in next", "next");
    aborts_naming("pthread_exit in submitted", "submitted");
}

static void p07_an_abort_in_a_callback_is_an_abort(void) {
    char words[1024];
    int status = ends("abort in run", words, sizeof words);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void p07_a_stack_that_overflows_ends_the_process(void) {
    char words[1024];
    int status = ends("overflow in run", words, sizeof words);
    CHECK(WIFSIGNALED(status) && (WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGBUS || WTERMSIG(status) == SIGABRT));
}

int main(int argc, char **argv) {
    if (argc > 1)
        return child(argv[1]);
    program = argv[0];
    const test tests[] = {TEST(p07_a_run_that_ends_its_thread_aborts_with_its_name),
                          TEST(p07_a_longjmp_out_of_a_callback_aborts_with_its_name),
                          TEST(p07_a_drop_that_ends_its_thread_aborts_with_its_name),
                          TEST(p07_a_completion_callback_that_ends_its_thread_aborts_with_its_name),
                          TEST(p07_a_cancel_hook_that_ends_its_thread_aborts_with_its_name),
                          TEST(p07_hooks_of_a_pool_that_end_their_thread_abort_with_their_name),
                          TEST(p07_what_feeds_a_stream_or_is_told_of_a_submit_aborts_with_its_name),
                          TEST(p07_an_abort_in_a_callback_is_an_abort),
                          TEST(p07_a_stack_that_overflows_ends_the_process)};
    return run_tests(tests, sizeof tests / sizeof tests[0]);
}
