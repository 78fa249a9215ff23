// What a callback sees of its own task, and callables that are told of an outcome. Part of duly.hpp.
#ifndef DULY_CONTEXT_HPP
#define DULY_CONTEXT_HPP

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>

#include "duly/error.hpp"
#include "duly/span.hpp"
#include "duly/token.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

// What a callback sees of its own task while it runs. Not to be kept.
class context {
public:
    explicit context(duly_call *call) noexcept : call_(call) {}
    context(const context &) = delete;
    context &operator=(const context &) = delete;

    // Whether the task has its outcome although the callback runs: it should return soon.
    bool is_cancelled() const noexcept { return duly_call_is_cancelled(call_); }

    // That outcome: cancelled, deadline_exceeded, abandoned; none while there is nothing to tell.
    std::optional<duly::outcome> cause() const noexcept {
        duly_outcome cause{};
        if (duly_call_cause(call_, &cause) != DULY_STATUS_OK) return std::nullopt;
        return detail::as_outcome(cause);
    }

    // What is left until the task's deadline; none without one.
    std::optional<std::chrono::nanoseconds> time_left() const noexcept {
        return detail::left(duly_call_time_left(call_));
    }

    // Runs F() or F(duly::outcome) when the task gets its outcome from outside while the callback runs: on a delivery
    // thread, or here and now if that has happened; not any more once the callback has returned. It must not throw.
    template <class F> void on_cancel(F &&hook);

    // A token that is cancelled when this task has its outcome: by cancel, deadline or shutdown. Its fd() wakes a poll; what
    // the callback submits stands under it. It may be kept.
    duly::token token() const noexcept {
        duly_token *own = nullptr;
        return duly::token::adopt(duly_call_token(call_, &own) == DULY_STATUS_OK ? own : nullptr);
    }

    // Makes the task failed with this code (0 counts as 1) and message, whatever the callback returns.
    void fail(std::int32_t code, const char *message) noexcept {
        code_ = code == 0 ? 1 : code;
        duly_call_set_message(call_, message);
    }

#if DULY_HPP_EXCEPTIONS
    // Throws duly::cancelled, deadline_exceeded or abandoned if the callback should return.
    void check() const {
        const auto why = cause();
        if (!why) return;
        const std::string rest = "its answer has been given, return early";
        if (*why == duly::outcome::deadline_exceeded) throw deadline_exceeded("this task's deadline has passed; " + rest);
        if (*why == duly::outcome::abandoned) throw abandoned("this task was abandoned by the shutdown of its pool; " + rest);
        throw cancelled("this task was cancelled; " + rest, "requested");
    }
#endif

    duly_call *native() const noexcept { return call_; }
    // The code that fail() set, or 0.
    std::int32_t code() const noexcept { return code_; }

private:
    duly_call *call_;
    std::int32_t code_ = 0;
};

namespace detail {

// A callable on the heap, as (tell, user_data, drop) of duly.h.
template <class F> struct listener {
    F callable;

    static void tell(void *data, duly_outcome how) {
        F &callable = static_cast<listener *>(data)->callable;
        if constexpr (std::is_invocable_v<F &, outcome>) {
            callable(as_outcome(how));
        } else {
            callable();
        }
    }
    static void drop(void *data) noexcept { delete static_cast<listener *>(data); }

    // Hands it to `attach` (tell, data, drop); destroyed here if refused.
    template <class G, class Attach> static duly_status attach(G &&callable, Attach &&attach) {
        auto data = std::unique_ptr<listener>(new listener{std::forward<G>(callable)});
        const duly_status status = attach(&listener::tell, static_cast<void *>(data.get()), &listener::drop);
        if (status == DULY_STATUS_OK) data.release();
        return status;
    }
};

} // namespace detail

template <class F> void context::on_cancel(F &&hook) {
    using listener = detail::listener<std::decay_t<F>>;
    listener::attach(std::forward<F>(hook), [this](auto tell, void *data, auto drop) {
        return duly_call_on_cancel(call_, tell, data, drop);
    });
}

} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
