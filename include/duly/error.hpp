// What a call did (status), how a task ended (outcome), and both as error codes and exceptions. Part of duly.hpp.
#ifndef DULY_ERROR_HPP
#define DULY_ERROR_HPP

#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include "duly/base.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

// What a call did: duly_status.
enum class status : std::int32_t {
    ok = DULY_STATUS_OK,
    queue_full = DULY_STATUS_QUEUE_FULL,
    submit_timed_out = DULY_STATUS_SUBMIT_TIMED_OUT,
    deadline_exceeded = DULY_STATUS_DEADLINE_EXCEEDED,
    cancelled = DULY_STATUS_CANCELLED,
    shut_down = DULY_STATUS_SHUT_DOWN,
    would_deadlock = DULY_STATUS_WOULD_DEADLOCK,
    invalid_argument = DULY_STATUS_INVALID_ARGUMENT,
    timed_out = DULY_STATUS_TIMED_OUT,
    pending = DULY_STATUS_PENDING,
    ended = DULY_STATUS_ENDED,
    taken = DULY_STATUS_TAKEN,
    no_value = DULY_STATUS_NO_VALUE,
    null_argument = DULY_STATUS_NULL_ARGUMENT,
    foreign_handle = DULY_STATUS_FOREIGN_HANDLE,
    unsupported = DULY_STATUS_UNSUPPORTED,
    no_threads = DULY_STATUS_NO_THREADS,
    no_descriptors = DULY_STATUS_NO_DESCRIPTORS,
    panic = DULY_STATUS_PANIC,
};

// How a task ended: duly_outcome.
enum class outcome : std::int32_t {
    succeeded = DULY_SUCCEEDED,
    failed = DULY_FAILED,
    panicked = DULY_PANICKED,
    cancelled = DULY_CANCELLED,
    deadline_exceeded = DULY_DEADLINE_EXCEEDED,
    shed = DULY_SHED,
    abandoned = DULY_ABANDONED,
};

// The names as the contract writes them: "queue_full", "deadline_exceeded".
inline const char *name(status value) noexcept { return duly_status_name(static_cast<std::int32_t>(value)); }
inline const char *name(outcome value) noexcept { return duly_outcome_name(static_cast<std::int32_t>(value)); }

namespace detail {

class status_category final : public std::error_category {
public:
    const char *name() const noexcept override { return "duly"; }
    std::string message(int value) const override { return duly_status_message(value); }
    std::error_condition default_error_condition(int value) const noexcept override {
        switch (static_cast<status>(value)) {
        case status::queue_full: return std::errc::resource_unavailable_try_again;
        case status::submit_timed_out:
        case status::deadline_exceeded:
        case status::timed_out: return std::errc::timed_out;
        case status::cancelled: return std::errc::operation_canceled;
        case status::would_deadlock: return std::errc::resource_deadlock_would_occur;
        case status::invalid_argument:
        case status::null_argument:
        case status::foreign_handle: return std::errc::invalid_argument;
        case status::unsupported: return std::errc::not_supported;
        case status::no_descriptors: return std::errc::too_many_files_open;
        default: return {value, *this};
        }
    }
};

class outcome_category final : public std::error_category {
public:
    const char *name() const noexcept override { return "duly.outcome"; }
    std::string message(int value) const override { return std::string("the task ended as ") + duly_outcome_name(value); }
    std::error_condition default_error_condition(int value) const noexcept override {
        switch (static_cast<outcome>(value)) {
        case outcome::cancelled: return std::errc::operation_canceled;
        case outcome::deadline_exceeded: return std::errc::timed_out;
        default: return {value, *this};
        }
    }
};

} // namespace detail

// The categories of error codes made of a status ("duly") and of an outcome ("duly.outcome").
inline const std::error_category &status_category() noexcept {
    static const detail::status_category category;
    return category;
}
inline const std::error_category &outcome_category() noexcept {
    static const detail::outcome_category category;
    return category;
}

inline std::error_code make_error_code(status value) noexcept { return {static_cast<int>(value), status_category()}; }
// succeeded is no error: an empty code.
inline std::error_code make_error_code(outcome value) noexcept {
    return value == outcome::succeeded ? std::error_code() : std::error_code(static_cast<int>(value), outcome_category());
}

// A call did not do its work: code() is a duly::status, what() says what was called and what to do.
class error : public std::system_error {
public:
    error(duly::status value, const std::string &what) : std::system_error(make_error_code(value), what) {}
};

// A task has another outcome than succeeded, and no C++ exception of its own.
class task_error : public std::runtime_error {
public:
    task_error(duly::outcome how, const std::string &what) : std::runtime_error(what), how_(how) {}
    duly::outcome outcome() const noexcept { return how_; }

private:
    duly::outcome how_;
};

// Failed with a code: a callback of C, or context::fail. Thrown by a callback, it sets its task's code and message.
class failed : public task_error {
public:
    failed(std::int32_t code, const std::string &what) : task_error(duly::outcome::failed, what), code_(code) {}
    // Never 0.
    std::int32_t code() const noexcept { return code_ == 0 ? 1 : code_; }

private:
    std::int32_t code_;
};

// A callback of another language panicked.
class panicked : public task_error {
public:
    explicit panicked(const std::string &what) : task_error(duly::outcome::panicked, what) {}
};

// Cancelled, queued or running.
class cancelled : public task_error {
public:
    cancelled(const std::string &what, std::string reason)
        : task_error(duly::outcome::cancelled, what), reason_(std::make_shared<const std::string>(std::move(reason))) {}
    // "requested", "caller_left", or the caller's own words.
    const std::string &reason() const noexcept { return *reason_; }

private:
    // Shared: copying an exception must not throw.
    std::shared_ptr<const std::string> reason_;
};

// The task's deadline passed, queued or running.
class deadline_exceeded : public task_error {
public:
    explicit deadline_exceeded(const std::string &what) : task_error(duly::outcome::deadline_exceeded, what) {}
};

// Dropped by the overflow policy.
class shed : public task_error {
public:
    explicit shed(const std::string &what) : task_error(duly::outcome::shed, what) {}
};

// The drain deadline of a shutdown passed, or the process forked.
class abandoned : public task_error {
public:
    explicit abandoned(const std::string &what) : task_error(duly::outcome::abandoned, what) {}
};

namespace detail {

inline status as_status(duly_status value) noexcept { return static_cast<status>(static_cast<std::int32_t>(value)); }
inline outcome as_outcome(duly_outcome value) noexcept { return static_cast<outcome>(static_cast<std::int32_t>(value)); }

// Where a call leaves its status: an error_code of the caller's; without one, an exception.
inline void leave(std::error_code &code, duly_status value) noexcept {
    code = value == DULY_STATUS_OK ? std::error_code() : make_error_code(as_status(value));
}
#if DULY_HPP_EXCEPTIONS
inline void require(const std::error_code &code, const std::string &what) {
    if (code) throw error(static_cast<status>(code.value()), "duly: " + what);
}
#endif

} // namespace detail

} // namespace DULY_HPP_NAMESPACE
} // namespace duly

template <> struct std::is_error_code_enum<duly::status> : std::true_type {};
template <> struct std::is_error_code_enum<duly::outcome> : std::true_type {};

#endif
