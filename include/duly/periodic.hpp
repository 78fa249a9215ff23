// Callbacks that are called again and again. Part of duly.hpp.
#ifndef DULY_PERIODIC_HPP
#define DULY_PERIODIC_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#include "duly/pool.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

// What a periodic task has done so far.
using periodic_numbers = duly_periodic_numbers;

// How a periodic task ended.
enum class periodic_end : std::int32_t {
    cancelled = DULY_PERIODIC_CANCELLED,
    shut_down = DULY_PERIODIC_SHUT_DOWN,
    failed = DULY_PERIODIC_FAILED,
};

// Options of a periodic task: periodic_options(1s).max_failures(3).run(task_options().timeout(500ms)).
class periodic_options {
public:
    // From one tick to the next, longer than nothing.
    template <class Rep, class Period>
    periodic_options(std::chrono::duration<Rep, Period> period) : periodic_options(span(period)) {}
    explicit periodic_options(span period) {
        if (!period.is_sound() || period.nanoseconds() == 0) wrong_ = "period";
        options_.period_ns = period.nanoseconds();
    }
    // Each run begins up to so much after its tick, at random; less than the period. Default: none.
    periodic_options &jitter(span value) {
        options_.jitter_ns = detail::option(value, "jitter", wrong_);
        return *this;
    }
    // Ends it after so many failures in a row, at least 1. Default: failures end nothing.
    periodic_options &max_failures(std::size_t value) {
        if (value == 0) wrong_ = "max_failures(0)";
        options_.max_failures = value;
        return *this;
    }
    // Ticks whose run could not be submitted are made up for; default: they are missed.
    periodic_options &catch_up() { return flag(DULY_PERIODIC_CATCH_UP); }
    // A run may begin while the one before is not done: then the callable is called by several threads at once.
    periodic_options &overlap() { return flag(DULY_PERIODIC_OVERLAP); }
    // The options of each run; its token cancels the whole, its delay is that of the first run.
    periodic_options &run(task_options value) {
        run_ = std::move(value);
        return *this;
    }

    // As duly.h takes them, but for `task`: valid while this object is and does not change.
    duly_periodic_options native() const noexcept { return options_; }
    const task_options &run() const noexcept { return run_; }
    const char *wrong() const noexcept { return wrong_ ? wrong_ : run_.wrong(); }

private:
    periodic_options &flag(std::uint32_t value) {
        options_.flags |= value;
        return *this;
    }

    duly_periodic_options options_ = DULY_PERIODIC_OPTIONS_INIT;
    task_options run_;
    const char *wrong_ = nullptr;
};

// A callable that is called at every tick of a period, each run a task. Dropping the handle ends nothing.
class periodic : public detail::handle<duly_periodic, duly_periodic_retain, duly_periodic_release> {
public:
    using handle::handle;

    // Begins: F() or F(duly::context &), called again and again. What it throws is a failed run. An empty handle, with its
    // code, if it was refused: invalid_argument, cancelled, shut_down; then the callable is gone.
    template <class F>
    static periodic make(const pool &where, const periodic_options &options, F &&callable, std::error_code &code) {
        using body = again<std::decay_t<F>>;
        duly_periodic *begun = nullptr;
        if (options.wrong() || detail::is_null<std::decay_t<F>>(callable)) {
            detail::leave(code, DULY_STATUS_INVALID_ARGUMENT);
            return {};
        }
        const duly_task_options run = options.run().native();
        duly_periodic_options plain = options.native();
        plain.task = &run;
        auto data = std::unique_ptr<body>(new body{std::forward<F>(callable)});
        const duly_status status =
            duly_pool_every(where.native(), &plain, &body::run, data.get(), &body::drop, &begun);
        if (status == DULY_STATUS_OK) (void)data.release();
        detail::leave(code, status);
        return periodic(begun);
    }

    // True if this call ended it: a queued run is cancelled, the callback of a running one is told.
    bool cancel() const noexcept { return duly_periodic_cancel(native()) == DULY_STATUS_OK; }
    bool cancel(const std::string &reason) const noexcept {
        return duly_periodic_cancel_with(native(), reason.c_str()) == DULY_STATUS_OK;
    }
    // Waits until no more runs will come; none: timed out, it goes on.
    std::optional<periodic_end> wait_for(span timeout) const noexcept {
        std::int32_t how = 0;
        if (duly_periodic_wait(native(), timeout.nanoseconds(), &how) != DULY_STATUS_OK) return std::nullopt;
        return static_cast<periodic_end>(how);
    }
    // Why it was cancelled; "" while it goes on.
    std::string reason() const { return duly_periodic_reason(native()); }
    // The token of all its runs: cancelling it ends the whole.
    duly::token token() const noexcept {
        duly_token *own = nullptr;
        return duly::token::adopt(duly_periodic_token(native(), &own) == DULY_STATUS_OK ? own : nullptr);
    }
    periodic_numbers stats() const noexcept {
        periodic_numbers numbers{};
        duly_periodic_stats(native(), &numbers, sizeof numbers);
        return numbers;
    }

#if DULY_HPP_EXCEPTIONS
    template <class F> periodic(const pool &where, const periodic_options &options, F &&callable) {
        std::error_code code;
        *this = make(where, options, std::forward<F>(callable), code);
        const char *wrong = options.wrong();
        detail::require(code, "new periodic task" + (wrong ? std::string(", ") + wrong : std::string()));
    }
#endif

private:
    explicit periodic(duly_periodic *owned) noexcept : handle(owned) {}

    template <class F> struct again {
        F callable;
        static std::int32_t run(void *data, duly_call *call) {
            context here(call);
            F &callable = static_cast<again *>(data)->callable;
            return detail::guarded(here, [&] {
                if constexpr (std::is_invocable_v<F &, context &>) {
                    callable(here);
                } else {
                    callable();
                }
            });
        }
        static void drop(void *data) noexcept { delete static_cast<again *>(data); }
    };
};

} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
