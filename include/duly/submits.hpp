// The ways to submit, which pools and groups share. Part of duly.hpp.
#ifndef DULY_SUBMITS_HPP
#define DULY_SUBMITS_HPP

#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#include "duly/options.hpp"
#include "duly/task.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {
namespace detail {

// What Self, a handle with the functions `waits` and `tries` of duly.h, submits to.
template <class Self> class submits {
public:
    // Submits a callable, waiting for room as the overflow policy says. With a code: the task is an empty handle if it
    // was refused: queue_full, submit_timed_out, deadline_exceeded, cancelled, shut_down, would_deadlock,
    // invalid_argument. A refused callable is gone, but a duly::callback handed in as an lvalue still has it.
    template <class F, class = std::enable_if_t<is_callback<F>>>
    task<result_t<F>> submit(const task_options &options, F &&callable, std::error_code &code) const {
        callback<result_t<F>> prepared(std::forward<F>(callable));
        return submit(options, prepared, code);
    }
    template <class R>
    task<R> submit(const task_options &options, callback<R> &prepared, std::error_code &code) const {
        return send(Self::waits, options, prepared, code);
    }
    // The same, but never waits for room.
    template <class F, class = std::enable_if_t<is_callback<F>>>
    task<result_t<F>> try_submit(const task_options &options, F &&callable, std::error_code &code) const {
        callback<result_t<F>> prepared(std::forward<F>(callable));
        return try_submit(options, prepared, code);
    }
    template <class R>
    task<R> try_submit(const task_options &options, callback<R> &prepared, std::error_code &code) const {
        return send(Self::tries, options, prepared, code);
    }

#if DULY_HPP_EXCEPTIONS
    template <class F, class = std::enable_if_t<is_callback<F>>>
    task<result_t<F>> submit(const task_options &options, F &&callable) const {
        callback<result_t<F>> prepared(std::forward<F>(callable));
        return submit(options, prepared);
    }
    template <class R> task<R> submit(const task_options &options, callback<R> &prepared) const {
        std::error_code code;
        auto accepted = submit(options, prepared, code);
        refused(code, options);
        return accepted;
    }
    template <class F> auto submit(F &&callable) const -> decltype(submit(task_options(), std::forward<F>(callable))) {
        return submit(task_options(), std::forward<F>(callable));
    }

    template <class F, class = std::enable_if_t<is_callback<F>>>
    task<result_t<F>> try_submit(const task_options &options, F &&callable) const {
        callback<result_t<F>> prepared(std::forward<F>(callable));
        return try_submit(options, prepared);
    }
    template <class R> task<R> try_submit(const task_options &options, callback<R> &prepared) const {
        std::error_code code;
        auto accepted = try_submit(options, prepared, code);
        refused(code, options);
        return accepted;
    }
    template <class F>
    auto try_submit(F &&callable) const -> decltype(try_submit(task_options(), std::forward<F>(callable))) {
        return try_submit(task_options(), std::forward<F>(callable));
    }
#endif

private:
    template <class R, class Submit>
    task<R> send(Submit way, const task_options &options, callback<R> &prepared, std::error_code &code) const {
        duly_task *accepted = nullptr;
        const duly_task_options plain = options.native();
        cell<R> *const data = prepared.cell_.get();
        if (options.wrong()) {
            leave(code, DULY_STATUS_INVALID_ARGUMENT);
            return {};
        }
        const duly_status status = way(static_cast<const Self *>(this)->native(), &plain, data ? &cell<R>::run : nullptr, data,
                                       &cell<R>::drop, &accepted);
        leave(code, status);
        if (status != DULY_STATUS_OK) return {};
        // It is duly's.
        (void)prepared.cell_.release();
        return task<R>(accepted);
    }

#if DULY_HPP_EXCEPTIONS
    static void refused(const std::error_code &code, const task_options &options) {
        const char *wrong = options.wrong();
        require(code, "submit of task " + options.shown() + (wrong ? std::string(", ") + wrong : std::string()));
    }
#endif
};

} // namespace detail
} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
