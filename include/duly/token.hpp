// Cancellation tokens. Part of duly.hpp.
#ifndef DULY_TOKEN_HPP
#define DULY_TOKEN_HPP

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "duly/error.hpp"
#include "duly/handle.hpp"
#include "duly/span.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

// Cancels what was submitted under it: task_options().token(t). Tokens form a tree; cancelling one cancels all under it.
// Copies are further handles of the same token. Dropping a handle cancels nothing.
class token : public detail::handle<duly_token, duly_token_retain, duly_token_release> {
public:
    // A new token without parent; token(nullptr) is an empty handle.
    token() noexcept : handle(made([](duly_token **made) { return duly_token_new(made); })) {}
    token(std::nullptr_t) noexcept : handle(nullptr) {}
    // A new token that counts as cancelled, with reason "deadline_exceeded", once that time has passed.
    explicit token(span timeout) noexcept
        : handle(made([&](duly_token **made) { return duly_token_with_timeout(nullptr, timeout.nanoseconds(), made); })) {}
    // Takes the caller's reference over.
    static token adopt(duly_token *owned) noexcept { return token(owned); }

    // That under which a submit here stands if its options name none: inside a callback that of its task, elsewhere a new one.
    static token current() noexcept {
        return token(made([](duly_token **made) { return duly_token_current(made); }));
    }

    // A token that is cancelled when this one is; with a time-out, the earlier of both deadlines holds.
    token child() const noexcept {
        return token(made([&](duly_token **made) { return duly_token_child(native(), made); }));
    }
    token child(span timeout) const noexcept {
        return token(made([&](duly_token **made) {
            return native() ? duly_token_with_timeout(native(), timeout.nanoseconds(), made) : DULY_STATUS_NULL_ARGUMENT;
        }));
    }

    // The tasks under it have their outcome when this returns. Only the first reason is kept.
    void cancel() const noexcept { duly_token_cancel(native()); }
    void cancel(const std::string &reason) const noexcept { duly_token_cancel_with(native(), reason.c_str()); }

    bool is_cancelled() const noexcept { return duly_token_is_cancelled(native()); }
    // "requested", "deadline_exceeded", the caller's own words; "" while it is not cancelled.
    std::string reason() const { return duly_token_reason(native()); }
    // What is left until its deadline, its own or a parent's; none without one.
    std::optional<std::chrono::nanoseconds> time_left() const noexcept {
        return detail::left(duly_token_time_left(native()));
    }
    // Waits until it is cancelled. False: timed out.
    bool wait_for(span timeout) const noexcept {
        return duly_token_wait(native(), timeout.nanoseconds()) == DULY_STATUS_OK;
    }

    // From now on one of these signals cancels the token and all under it, with reason "signal N", as long as the token or a
    // child of it lives; which signals there are: pool::shutdown_on. Error: invalid_argument, no_threads, no_descriptors.
    void cancel_on(const std::vector<int> &signals, std::error_code &code) const noexcept {
        detail::leave(code, duly_token_cancel_on(native(), signals.data(), signals.size()));
    }

    // A descriptor to poll: readable once the token is cancelled, and for good. Only poll it; it is closed with the token's
    // last handle. -1 with a code.
    int fd(std::error_code &code) const noexcept {
        int descriptor = -1;
        detail::leave(code, duly_token_fd(native(), &descriptor));
        return descriptor;
    }
#if DULY_HPP_EXCEPTIONS
    void cancel_on(const std::vector<int> &signals) const {
        std::error_code code;
        cancel_on(signals, code);
        detail::require(code, "cancel_on of a token");
    }
    int fd() const {
        std::error_code code;
        const int descriptor = fd(code);
        detail::require(code, "descriptor of a token");
        return descriptor;
    }
#endif

private:
    explicit token(duly_token *owned) noexcept : handle(owned) {}
    template <class Make> static duly_token *made(Make make) noexcept {
        duly_token *fresh = nullptr;
        return make(&fresh) == DULY_STATUS_OK ? fresh : nullptr;
    }
};

} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
