// The test kit of the C++ tests: named tests, checks that go on after a failure, a watchdog, gates and counters.
// Keeps true: each test prints one line, "ok NAME" or "FAILED NAME"; none hangs (a watchdog ends the program and says which
// test it was); nothing waits by sleeping for a fixed time: until() polls up to a limit.
#ifndef DULY_TESTS_CPP_CHECK_HPP
#define DULY_TESTS_CPP_CHECK_HPP

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "duly.hpp"

using namespace std::chrono_literals;

// Longer than anything here takes, shorter than the watchdog.
inline constexpr auto LONG = 20s;

struct test {
    const char *name;
    void (*body)();
    test *next = nullptr;
    inline static test *first = nullptr;
    inline static const char *running = "";
    inline static const char *program = "";
    inline static std::atomic<bool> failed{false};
    test(const char *called, void (*does)()) : name(called), body(does) {
        test **last = &first;
        while (*last) last = &(*last)->next;
        *last = this;
    }
};
#define TEST(name)                            \
    static void name();                       \
    static test test_##name(#name, name);     \
    static void name()

// What a test runs in a process of its own: run_child(name).
struct child {
    const char *name;
    void (*body)();
    child *next;
    inline static child *first = nullptr;
    child(const char *called, void (*does)()) : name(called), body(does), next(std::exchange(first, this)) {}
};
#define CHILD(name)                             \
    static void name();                         \
    static child child_##name(#name, name);     \
    static void name()

inline void not_so(const char *file, int line, const char *what) {
    std::printf("  %s:%d: %s: not so: %s\n", file, line, test::running, what);
    test::failed = true;
}
#define CHECK(...)                                              \
    do {                                                        \
        if (!(__VA_ARGS__)) not_so(__FILE__, __LINE__, #__VA_ARGS__); \
    } while (0)

inline void check_text(const char *file, int line, const std::string &got, const std::string &wanted) {
    if (got != wanted) not_so(file, line, ("\"" + got + "\" is \"" + wanted + "\"").c_str());
}
#define CHECK_TEXT(text, wanted) check_text(__FILE__, __LINE__, text, wanted)

// The expression throws this type, and the condition holds of `seen`, which was thrown.
#define CHECK_THROWS(type, expression, ...)                                     \
    do {                                                                        \
        bool thrown_ = false;                                                   \
        try {                                                                   \
            (void)(expression);                                                 \
        } catch (const type &seen) {                                            \
            thrown_ = true;                                                     \
            (void)seen;                                                         \
            CHECK(__VA_ARGS__);                                                 \
        }                                                                       \
        if (!thrown_) not_so(__FILE__, __LINE__, #expression " throws " #type); \
    } while (0)

// True as soon as `condition` holds, false when it does not within LONG.
template <class Condition> bool until(Condition condition) {
    const auto end = std::chrono::steady_clock::now() + LONG;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end) return false;
        std::this_thread::sleep_for(500us);
    }
    return true;
}

// Closed until it is opened; deaf to everything else.
class gate {
public:
    void pass() {
        std::unique_lock<std::mutex> locked(lock_);
        entered_++;
        changed_.notify_all();
        changed_.wait(locked, [this] { return open_; });
    }
    void open() {
        const std::lock_guard<std::mutex> locked(lock_);
        open_ = true;
        changed_.notify_all();
    }
    void await_entered(int count = 1) {
        std::unique_lock<std::mutex> locked(lock_);
        CHECK(changed_.wait_for(locked, LONG, [&] { return entered_ >= count; }));
    }
    bool entered() {
        const std::lock_guard<std::mutex> locked(lock_);
        return entered_ > 0;
    }

private:
    std::mutex lock_;
    std::condition_variable changed_;
    int entered_ = 0;
    bool open_ = false;
};

// Counts how often what holds it is destroyed; moved-from ones do not count.
class drops {
public:
    explicit drops(std::atomic<int> &count) : count_(&count) {}
    drops(drops &&other) noexcept : count_(std::exchange(other.count_, nullptr)) {}
    drops(const drops &) = delete;
    drops &operator=(drops &&) = delete;
    ~drops() {
        if (count_) ++*count_;
    }

private:
    std::atomic<int> *count_;
};

inline duly::pool_options small(std::size_t workers = 1) {
    return duly::pool_options().workers(workers).name("cpp");
}

inline duly::pool make_pool(const duly::pool_options &options) {
    std::error_code code;
    auto made = duly::pool::make(options, code);
    CHECK(!code && made);
    return made;
}

// Drains; every task of the pool must end by itself.
inline void end_pool(const duly::pool &pool) {
    std::error_code code;
    const auto report = pool.shutdown(LONG, code);
    CHECK(!code && report.drained() && report.threads_left() == 0);
    const auto books = report.stats();
    CHECK(duly_stats_balance(&books) && books.queued == 0 && books.running == 0);
}

// Submits a callable that has begun before the time-out of its task has passed. On a busy machine that takes several tries, each with
// twice as long: `timeout` and `start` are those of the last. `begun` says whether the callable got there.
template <class Callable, class Begun>
auto submit_begun(const duly::pool &pool, const duly::task_options &options, std::chrono::milliseconds &timeout,
                  std::chrono::steady_clock::time_point &start, Callable callable, Begun begun) {
    for (;; timeout *= 2) {
        std::error_code code;
        start = std::chrono::steady_clock::now();
        auto task = pool.submit(duly::task_options(options).timeout(timeout), Callable(callable), code);
        // Over before it was accepted.
        if (code == duly::status::deadline_exceeded) continue;
        CHECK(!code);
        while (!begun() && !task.released_for(0s)) std::this_thread::sleep_for(500us);
        if (code || begun()) return task;
    }
}

// How a child ended, and what it wrote to stderr.
struct ended {
    int status = 0;
    std::string words;
    bool aborted_with(const char *part) const {
        return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && words.find(part) != std::string::npos;
    }
};

inline ended run_child(const char *name) {
    int ends[2];
    ended seen;
    if (pipe(ends) != 0) return seen;
    const pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl(test::program, test::program, name, static_cast<char *>(nullptr));
        _exit(127);
    }
    close(ends[1]);
    char some[512];
    for (ssize_t got; (got = read(ends[0], some, sizeof some)) > 0;) seen.words.append(some, static_cast<std::size_t>(got));
    close(ends[0]);
    waitpid(pid, &seen.status, 0);
    return seen;
}

inline void overslept(int) {
    const char *parts[] = {"FAILED ", test::running, " (still running after 60 s)\n"};
    for (const char *part : parts)
        if (write(STDOUT_FILENO, part, std::strlen(part)) < 0) break;
    _exit(1);
}

inline void run_one(const test &one) {
#if DULY_HPP_EXCEPTIONS
    try {
        one.body();
    } catch (const std::exception &thrown) {
        not_so(one.name, 0, (std::string("it threw: ") + thrown.what()).c_str());
    }
#else
    one.body();
#endif
}

int main(int count, char **arguments) {
    test::program = arguments[0];
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    for (const child *one = child::first; count > 1 && one; one = one->next)
        if (std::strcmp(one->name, arguments[1]) == 0) {
            one->body();
            return 0;
        }
    bool any = false;
    std::signal(SIGALRM, overslept);
    for (const test *one = test::first; one; one = one->next) {
        test::running = one->name;
        test::failed = false;
        alarm(60);
        run_one(*one);
        alarm(0);
        std::printf("%s %s\n", test::failed ? "FAILED" : "ok", one->name);
        any |= test::failed;
    }
    return any;
}

#endif
