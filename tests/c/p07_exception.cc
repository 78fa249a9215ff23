// P7, from C++: an exception that leaves a plain C callback aborts the process, with a message; one caught inside it
// is a failure like any other. Also: a C++17 program uses the C header as it is.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>

#include "duly.h"

static int32_t run_throw(void *, duly_call *) {
    throw std::runtime_error("planted");
}

static int32_t run_catch(void *, duly_call *call) {
    try {
        throw std::runtime_error("planted");
    } catch (const std::exception &error) {
        duly_call_set_message(call, error.what());
        return 1;
    }
}

// The outcome of `run` in a pool of its own; `message` gets the task's.
static duly_outcome outcome_of(duly_run_fn run, std::string &message) {
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_task_options task_options = DULY_TASK_OPTIONS_INIT;
    duly_pool *pool = nullptr;
    duly_task *task = nullptr;
    duly_outcome outcome{};
    options.workers = 1;
    task_options.timeout_ns = 20 * DULY_SECOND;
    if (duly_pool_new(&options, &pool) != DULY_STATUS_OK ||
        duly_submit(pool, &task_options, run, nullptr, nullptr, &task) != DULY_STATUS_OK)
        return outcome;
    duly_task_wait(task, DULY_FOREVER, &outcome);
    message = duly_task_message(task);
    duly_task_release(task);
    duly_pool_shutdown(pool, DULY_SECOND, nullptr);
    duly_pool_release(pool);
    return outcome;
}

static bool p07_an_exception_caught_in_the_callback_is_a_failure() {
    std::string message;
    return outcome_of(run_catch, message) == DULY_FAILED && message == "planted";
}

static bool p07_an_exception_that_leaves_the_callback_aborts_with_a_message(const char *program) {
    int ends[2];
    int status = 0;
    char words[512] = "";
    size_t length = 0;
    if (pipe(ends) != 0)
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl(program, program, "child", static_cast<char *>(nullptr));
        _exit(127);
    }
    close(ends[1]);
    for (ssize_t got; length < sizeof words - 1 && (got = read(ends[0], words + length, sizeof words - 1 - length)) > 0;)
        length += static_cast<size_t>(got);
    close(ends[0]);
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT &&
           std::strstr(words, "the run function was left by an exception") != nullptr;
}

int main(int argc, char **argv) {
    if (argc > 1) {
        std::string message;
        outcome_of(run_throw, message);
        return 0;
    }
    bool caught = p07_an_exception_caught_in_the_callback_is_a_failure();
    std::printf("%s p07_an_exception_caught_in_the_callback_is_a_failure\n", caught ? "ok" : "FAILED");
    std::fflush(stdout);
    bool aborted = p07_an_exception_that_leaves_the_callback_aborts_with_a_message(argv[0]);
    std::printf("%s p07_an_exception_that_leaves_the_callback_aborts_with_a_message\n", aborted ? "ok" : "FAILED");
    return caught && aborted ? 0 : 1;
}
