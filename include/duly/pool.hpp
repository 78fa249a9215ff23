// Pools, and what their shutdown reports. Part of duly.hpp.
#ifndef DULY_POOL_HPP
#define DULY_POOL_HPP

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "duly/admission.hpp"
#include "duly/options.hpp"
#include "duly/queue.hpp"
#include "duly/run.hpp"
#include "duly/submits.hpp"
#include "duly/task.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

// The counters of a pool.
using stats = duly_stats;
// Whether the books balance: at rest they do, exactly.
inline bool balanced(const stats &books) noexcept { return duly_stats_balance(&books); }

// What a shutdown did.
class report : public detail::handle<duly_report, duly_report_retain, duly_report_release> {
public:
    using handle::handle;
    static report adopt(duly_report *owned) noexcept { return report(owned); }

    // Every accepted task ended by itself: nothing was abandoned.
    bool drained() const noexcept { return duly_report_drained(native()); }
    // The labels of the abandoned tasks, and of callbacks that still run.
    std::vector<std::string> abandoned() const {
        return list(duly_report_abandoned_count, duly_report_abandoned_label);
    }
    std::vector<std::string> stuck() const { return list(duly_report_stuck_count, duly_report_stuck_label); }
    std::size_t threads_left() const noexcept { return duly_report_threads_left(native()); }
    std::chrono::nanoseconds elapsed() const noexcept {
        return std::chrono::nanoseconds(static_cast<std::int64_t>(duly_report_elapsed_ns(native())));
    }
    duly::stats stats() const noexcept {
        duly::stats counters{};
        duly_report_stats(native(), &counters, sizeof counters);
        return counters;
    }
    // All of it, for people.
    std::string text() const { return duly_report_text(native()); }

private:
    explicit report(duly_report *owned) noexcept : handle(owned) {}

    template <class Count, class Label> std::vector<std::string> list(Count count, Label label) const {
        std::vector<std::string> labels;
        for (std::size_t i = 0; i < count(native()); i++) labels.emplace_back(label(native(), i));
        return labels;
    }

    friend class pool;
};

// A callback that runs.
struct leak {
    std::string label;
    // What task_options::submitted_at said.
    std::string submitted_at;
    std::string thread;
    // How long it runs.
    std::chrono::nanoseconds age;
    // The outcome that its task has already; none while there is none.
    std::optional<duly::outcome> outcome;
};

// N threads over a bounded queue. Copies are further handles of the same pool; when the last one is gone it closes and
// drains in the background. Call shutdown to wait for that, and to learn what was left.
class pool : public detail::handle<duly_pool, duly_pool_retain, duly_pool_release>, public detail::submits<pool>,
             public detail::admits<pool>,
             public detail::runs<pool> {
public:
    using handle::handle;
    // Takes the caller's reference over.
    static pool adopt(duly_pool *owned) noexcept { return pool(owned); }

    // A new pool; an empty handle, with its code, if there is none: invalid_argument, no_threads, unsupported.
    static pool make(const pool_options &options, std::error_code &code) {
        duly_pool *made = nullptr;
        duly_pool_options plain = options.native();
        detail::lent lent(options.hook_, options.carry_, plain);
        const duly_status status = options.wrong() ? DULY_STATUS_INVALID_ARGUMENT : duly_pool_new(&plain, &made);
        if (status == DULY_STATUS_OK) lent.keep();
        detail::leave(code, status);
        return pool(made);
    }

    // A further queue beside the pool's own, which is default_queue(). Error: invalid_argument, shut_down.
    queue add_queue(const queue_options &options, std::error_code &code) const {
        duly_queue *added = nullptr;
        const duly_queue_options plain = options.native();
        detail::leave(code, options.wrong() ? DULY_STATUS_INVALID_ARGUMENT : duly_pool_add_queue(native(), &plain, &added));
        return queue(added);
    }
    queue default_queue() const noexcept {
        duly_queue *own = nullptr;
        return queue(duly_pool_default_queue(native(), &own) == DULY_STATUS_OK ? own : nullptr);
    }

    // From when it returns on no task of any queue is started; undone by resume.
    void pause() const noexcept { duly_pool_pause(native()); }
    void resume() const noexcept { duly_pool_resume(native()); }
    // How many threads run callbacks from now on, at least 1. Error: invalid_argument, shut_down.
    void set_workers(std::size_t count, std::error_code &code) const noexcept {
        detail::leave(code, duly_pool_set_workers(native(), detail::option(count)));
    }

    // Callbacks that outlived their task's outcome, and all that run.
    std::vector<leak> leaks() const { return list(duly_pool_leaks); }
    std::vector<leak> running() const { return list(duly_pool_running); }
    // The leaks for people, a line each.
    std::string leaks_text() const {
        duly_leaks *found = nullptr;
        if (duly_pool_leaks(native(), &found) != DULY_STATUS_OK) return {};
        const std::unique_ptr<duly_leaks, void (*)(duly_leaks *)> kept(found, duly_leaks_release);
        return duly_leaks_text(found);
    }

    // Accepts no more; what was accepted is still run.
    void close() const noexcept { duly_pool_close(native()); }
    // Whether it accepts no more: closed or shut down, by a call, a signal or a fork.
    bool is_closed() const noexcept { return duly_pool_is_closed(native()); }
    // Whether this process is a forked child of the pool's: every call answers at once, nothing runs. Make a new one.
    bool is_inherited() const noexcept { return duly_pool_is_inherited(native()); }

    // Closes, runs what was accepted for at most `drain`, then abandons the rest: every task has its outcome when this
    // returns. Error: would_deadlock, called by a worker of this pool.
    report shutdown(span drain, std::error_code &code) const {
        duly_report *done = nullptr;
        detail::leave(code, duly_pool_shutdown(native(), drain.nanoseconds(), &done));
        return report(done);
    }

    // The first of these signals (SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2) closes the pool and begins its drain,
    // the next one abandons what is left: the process is ready to exit within `grace` after the first. Binding again
    // replaces what was bound, no signals end it. Error: invalid_argument, shut_down, no_threads, no_descriptors.
    void shutdown_on(const std::vector<int> &signals, span grace, std::error_code &code) const noexcept {
        detail::leave(code, grace.is_sound()
                                ? duly_pool_shutdown_on(native(), signals.data(), signals.size(), grace.nanoseconds())
                                : DULY_STATUS_INVALID_ARGUMENT);
    }
    // Waits until a pool that is bound to signals has come to its end, at most that long; none without a code: timed out.
    // What a main thread does while others serve. Error: invalid_argument (it is not bound), would_deadlock, shut_down.
    std::optional<report> wait_shutdown(span timeout, std::error_code &code) const noexcept {
        duly_report *done = nullptr;
        const duly_status status = duly_pool_wait_shutdown(native(), timeout.nanoseconds(), &done);
        detail::leave(code, status == DULY_STATUS_TIMED_OUT ? DULY_STATUS_OK : status);
        return status == DULY_STATUS_OK ? std::optional<report>(report(done)) : std::nullopt;
    }
    // The signal that came first; 0 while none has come.
    int signal() const noexcept { return duly_pool_signal(native()); }

    duly::stats stats() const noexcept {
        duly::stats counters{};
        duly_pool_stats(native(), &counters, sizeof counters);
        return counters;
    }

#if DULY_HPP_EXCEPTIONS
    pool() : pool(pool_options()) {}
    explicit pool(const pool_options &options) {
        std::error_code code;
        *this = make(options, code);
        const char *wrong = options.wrong();
        detail::require(code, wrong ? std::string("pool_options::") + wrong : std::string("new pool"));
    }

    queue add_queue(const queue_options &options) const {
        std::error_code code;
        auto added = add_queue(options, code);
        const char *wrong = options.wrong();
        detail::require(code, wrong ? std::string("queue_options::") + wrong : std::string("new queue"));
        return added;
    }

    void set_workers(std::size_t count) const {
        std::error_code code;
        set_workers(count, code);
        detail::require(code, "set_workers(" + std::to_string(count) + ")");
    }

    report shutdown(span drain = std::chrono::seconds(25)) const {
        std::error_code code;
        auto done = shutdown(drain, code);
        detail::require(code, "shutdown of a pool");
        return done;
    }

    void shutdown_on(const std::vector<int> &signals, span grace) const {
        std::error_code code;
        shutdown_on(signals, grace, code);
        detail::require(code, "shutdown_on");
    }
    std::optional<report> wait_shutdown(span timeout) const {
        std::error_code code;
        auto done = wait_shutdown(timeout, code);
        detail::require(code, "wait_shutdown");
        return done;
    }
#endif

private:
    friend class detail::submits<pool>;
    explicit pool(duly_pool *owned) noexcept : handle(owned) {}

    std::vector<leak> list(duly_status (*of)(const duly_pool *, duly_leaks **)) const {
        duly_leaks *found = nullptr;
        std::vector<leak> all;
        if (of(native(), &found) != DULY_STATUS_OK) return all;
        const std::unique_ptr<duly_leaks, void (*)(duly_leaks *)> kept(found, duly_leaks_release);
        for (std::size_t i = 0; i < duly_leaks_count(found); i++) {
            leak one{duly_leaks_label(found, i), duly_leaks_submitted_at(found, i), duly_leaks_thread(found, i),
                     std::chrono::nanoseconds(static_cast<std::int64_t>(duly_leaks_age_ns(found, i))), std::nullopt};
            if (const auto how = duly_leaks_outcome(found, i)) one.outcome = static_cast<duly::outcome>(how);
            all.push_back(std::move(one));
        }
        return all;
    }

    static constexpr auto waits = &duly_submit, tries = &duly_try_submit;
};

} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
