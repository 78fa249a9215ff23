// Tasks that belong together, and waits for several. Part of duly.hpp.
#ifndef DULY_GROUP_HPP
#define DULY_GROUP_HPP

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "duly/pool.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

// Options of a group: group_options().limit(8).timeout(2s).
class group_options {
public:
    // Names the group in messages. Default "group".
    group_options &label(std::string value) {
        label_ = std::move(value);
        return *this;
    }
    // Members that may be under way at the same time, at least 1. Default: as many as the pool's queue holds.
    group_options &limit(std::size_t value) {
        if (value == 0) wrong_ = "limit(0)";
        options_.limit = detail::option(value);
        return *this;
    }
    // Errors that the result keeps, the first ones. Default: all.
    group_options &keep_errors(std::size_t value) {
        options_.keep_errors = value == 0 ? DULY_NONE : detail::option(value);
        return *this;
    }
    // Every member must have its outcome within this, counted from the making of the group. Default: none.
    group_options &timeout(span value) {
        options_.timeout_ns = detail::option(value, "timeout", wrong_);
        return *this;
    }
    // The group's own token is a child of this one.
    group_options &token(duly::token value) {
        token_ = std::move(value);
        return *this;
    }
    // A member that fails cancels nobody.
    group_options &go_on() {
        options_.flags |= DULY_GROUP_GO_ON;
        return *this;
    }

    // As duly.h takes them: valid while this object is and does not change.
    duly_group_options native() const noexcept {
        duly_group_options options = options_;
        options.label = label_.empty() ? nullptr : label_.c_str();
        options.token = token_.native();
        return options;
    }
    const char *wrong() const noexcept { return wrong_; }

private:
    duly_group_options options_ = DULY_GROUP_OPTIONS_INIT;
    std::string label_;
    duly::token token_ = nullptr;
    const char *wrong_ = nullptr;
};

// How the members of a group ended.
class group_result : public detail::handle<duly_group_result, duly_group_result_retain, duly_group_result_release> {
public:
    using handle::handle;

    bool succeeded() const noexcept { return duly_group_result_succeeded(native()); }
    std::uint64_t count(duly::outcome how) const noexcept {
        return duly_group_result_count(native(), static_cast<std::int32_t>(how));
    }
    // How many were cancelled because another had failed: they are not among the errors.
    std::uint64_t cancelled_by_group() const noexcept { return duly_group_result_cancelled_by_group(native()); }
    // Members that did not succeed, in the order in which they ended; the first made the group fail. Read their outcome,
    // message and label, and what they threw: exception(), raise().
    std::vector<any_task> errors() const {
        std::vector<any_task> all;
        for (std::size_t i = 0; i < duly_group_result_error_count(native()); i++)
            all.push_back(any_task::adopt(duly_task_retain(duly_group_result_error(native(), i, nullptr))));
        return all;
    }
    // All errors, for people; "" if there are none.
    std::string text() const { return duly_group_result_text(native()); }

private:
    friend class group;
    explicit group_result(duly_group_result *owned) noexcept : handle(owned) {}
};

// Tasks under one token, of which the first failure cancels the rest. Submits as a pool does; the last handle that goes cancels
// what is under way, unless a wait has seen the end, or it is detached. (To borrow, take a task_scope.)
class group : public detail::handle<duly_group, duly_group_retain, duly_group_release>, public detail::submits<group> {
public:
    using handle::handle;

    // A new group; an empty handle, with its code, if there is none: invalid_argument.
    static group make(const pool &where, const group_options &options, std::error_code &code) {
        duly_group *made = nullptr;
        const duly_group_options plain = options.native();
        detail::leave(code, options.wrong() ? DULY_STATUS_INVALID_ARGUMENT : duly_group_new(where.native(), &plain, &made));
        return group(made);
    }

    // Waits until no member is under way; from then on no more are accepted. None without a code: timed out, it goes on.
    std::optional<group_result> wait_for(span timeout, std::error_code &code) const noexcept {
        duly_group_result *result = nullptr;
        const duly_status status = duly_group_wait(native(), timeout.nanoseconds(), &result);
        detail::leave(code, status == DULY_STATUS_TIMED_OUT ? DULY_STATUS_OK : status);
        if (status != DULY_STATUS_OK) return std::nullopt;
        return group_result(result);
    }
    // Cancels every member that has no outcome; no more are accepted.
    void cancel(const std::string &reason = "requested") const noexcept { duly_group_cancel(native(), reason.c_str()); }
    // From now on the last handle that goes cancels nothing.
    void detach() const noexcept { duly_group_detach(native()); }

#if DULY_HPP_EXCEPTIONS
    explicit group(const pool &where, const group_options &options = group_options()) {
        std::error_code code;
        *this = make(where, options, code);
        detail::require(code, options.wrong() ? std::string("group_options::") + options.wrong() : std::string("new group"));
    }
    std::optional<group_result> wait_for(span timeout) const {
        std::error_code code;
        auto result = wait_for(timeout, code);
        detail::require(code, "wait for a group");
        return result;
    }
    group_result wait() const { return *wait_for(forever); }
#endif

private:
    friend class detail::submits<group>;
    explicit group(duly_group *owned) noexcept : handle(owned) {}
    static constexpr auto waits = &duly_group_submit, tries = &duly_group_try_submit;
};

namespace detail {
inline std::vector<const duly_task *> natives(const std::vector<any_task> &tasks) {
    std::vector<const duly_task *> all;
    for (const any_task &one : tasks) all.push_back(one.native());
    return all;
}
} // namespace detail

// Waits until one of the tasks has its outcome, and says which; none without a code: timed out. Takes no value.
inline std::optional<std::size_t> wait_any(const std::vector<any_task> &tasks, span timeout, std::error_code &code) {
    std::size_t first = 0;
    const auto all = detail::natives(tasks);
    const duly_status status = duly_wait_any(all.data(), all.size(), timeout.nanoseconds(), &first);
    detail::leave(code, status == DULY_STATUS_TIMED_OUT ? DULY_STATUS_OK : status);
    return status == DULY_STATUS_OK ? std::optional<std::size_t>(first) : std::nullopt;
}
// Waits until all of them have. False without a code: timed out.
inline bool wait_all(const std::vector<any_task> &tasks, span timeout, std::error_code &code) {
    const auto all = detail::natives(tasks);
    const duly_status status = duly_wait_all(all.data(), all.size(), timeout.nanoseconds());
    detail::leave(code, status == DULY_STATUS_TIMED_OUT ? DULY_STATUS_OK : status);
    return status == DULY_STATUS_OK;
}
#if DULY_HPP_EXCEPTIONS
inline std::optional<std::size_t> wait_any(const std::vector<any_task> &tasks, span timeout = forever) {
    std::error_code code;
    const auto first = wait_any(tasks, timeout, code);
    detail::require(code, "wait_any");
    return first;
}
inline bool wait_all(const std::vector<any_task> &tasks, span timeout = forever) {
    std::error_code code;
    const bool all = wait_all(tasks, timeout, code);
    detail::require(code, "wait_all");
    return all;
}
#endif

} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
