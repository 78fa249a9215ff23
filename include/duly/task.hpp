// Tasks: handles of accepted callbacks. Part of duly.hpp.
#ifndef DULY_TASK_HPP
#define DULY_TASK_HPP

#include "duly/base.hpp"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#if DULY_HPP_EXCEPTIONS
#include <future>
#endif
#if DULY_HPP_COROUTINES
#include <coroutine>
#endif

#include "duly/callback.hpp"
#include "duly/handle.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

// A task whatever its value is, also of another language. Copies are further handles of the same task.
class any_task : public detail::handle<duly_task, duly_task_retain, duly_task_release> {
public:
    using handle::handle;
    // Takes the caller's reference over.
    static any_task adopt(duly_task *task) noexcept { return any_task(task); }

    // The outcome, once there is one. Never blocks.
    std::optional<duly::outcome> outcome() const noexcept {
        duly_outcome how{};
        if (duly_task_outcome(native(), &how) != DULY_STATUS_OK) return std::nullopt;
        return detail::as_outcome(how);
    }

    // Waits for the outcome, at most that long; none: the wait timed out and the task goes on. Error: would_deadlock, in
    // a callback whose wait without end could never end.
    std::optional<duly::outcome> wait_for(span timeout, std::error_code &code) const noexcept {
        duly_outcome how{};
        const duly_status status = duly_task_wait(native(), timeout.nanoseconds(), &how);
        detail::leave(code, status == DULY_STATUS_TIMED_OUT ? DULY_STATUS_OK : status);
        if (status != DULY_STATUS_OK) return std::nullopt;
        return detail::as_outcome(how);
    }

    // Waits until the callback has returned, or never will run, and what it captured is gone. False: timed out.
    bool released_for(span timeout) const noexcept {
        return duly_task_wait_released(native(), timeout.nanoseconds()) == DULY_STATUS_OK;
    }

    // True if this call decided the outcome. The outcome is there when it returns; a running callback goes on until it
    // looks at its context.
    bool cancel() const noexcept { return duly_task_cancel(native()) == DULY_STATUS_OK; }
    bool cancel(const std::string &reason) const noexcept {
        return duly_task_cancel_with(native(), reason.c_str()) == DULY_STATUS_OK;
    }

    // Of a failed task, else 0; of a failed or panicked one; of a cancelled one; what it was submitted with.
    std::int32_t code() const noexcept { return duly_task_code(native()); }
    std::string message() const { return duly_task_message(native()); }
    std::string reason() const { return duly_task_reason(native()); }
    std::string label() const { return duly_task_label(native()); }

    // Runs F() or F(duly::outcome) once the task has its outcome: on the worker that ends it, otherwise on a delivery
    // thread; here and now if it has it. It must not throw, and should be quick.
    template <class F> void on_complete(F &&told, std::error_code &code) const {
        using listener = detail::listener<std::decay_t<F>>;
        // A handle of its own: what is told here and now may end this one.
        const any_task kept(*this);
        detail::leave(code, listener::attach(std::forward<F>(told), [&kept](auto tell, void *data, auto drop) {
                          return duly_task_on_complete(kept.native(), tell, data, drop);
                      }));
    }

#if DULY_HPP_EXCEPTIONS
    std::optional<duly::outcome> wait_for(span timeout) const {
        std::error_code code;
        const auto how = wait_for(timeout, code);
        detail::require(code, "wait for task " + shown());
        return how;
    }
    duly::outcome wait() const { return *wait_for(forever); }
    template <class F> void on_complete(F &&told) const {
        std::error_code code;
        on_complete(std::forward<F>(told), code);
        detail::require(code, "on_complete of task " + shown());
    }
    // What the callback threw, if it was one of C++; null for any other outcome.
    std::exception_ptr exception() const noexcept { return detail::thrown::of(native()); }
    // Throws what the outcome of an ended task stands for: what its callback threw, or a task_error; nothing if it succeeded.
    void raise(duly::outcome how) const {
        switch (how) {
        case duly::outcome::succeeded: return;
        case duly::outcome::failed:
            if (const auto thrown = exception()) std::rethrow_exception(thrown);
            throw failed(code(), "task " + shown() + " failed: " + message());
        case duly::outcome::panicked: throw panicked("task " + shown() + " panicked: " + message());
        case duly::outcome::cancelled: throw cancelled("task " + shown() + " was cancelled: " + reason(), reason());
        case duly::outcome::deadline_exceeded: throw deadline_exceeded("task " + shown() + " passed its deadline");
        case duly::outcome::shed: throw shed("task " + shown() + " was shed: its queue was full");
        default: throw abandoned("task " + shown() + " was abandoned: its pool shut down, or the process forked");
        }
    }
#endif

protected:
    explicit any_task(duly_task *owned) noexcept : handle(owned) {}
    std::string shown() const { return "\"" + label() + "\""; }
};

// One accepted callback, and the way to its value: a blocking handle and a future in one. Move-only, as the value.
template <class R> class task : public any_task {
    using value = detail::value_t<R>;

public:
    task() noexcept = default;
    task(task &&) noexcept = default;
    task &operator=(task &&) noexcept = default;
    task(const task &) = delete;
    task &operator=(const task &) = delete;

    // Waits at most that long and takes the value. None with a code: another outcome than succeeded (outcome_category), or
    // taken, would_deadlock (status_category). None without a code: the wait timed out, the task goes on.
    std::optional<value> get_for(span timeout, std::error_code &code) {
        const auto how = wait_for(timeout, code);
        if (!how) return std::nullopt;
        code = make_error_code(*how);
        return code ? std::nullopt : take(code);
    }
    std::optional<value> get(std::error_code &code) { return get_for(forever, code); }

#if DULY_HPP_EXCEPTIONS
    // Waits and takes the value. Throws what the callback threw, or a task_error, or error: taken, would_deadlock.
    R get() {
        if constexpr (std::is_void_v<R>) {
            get_for(forever);
        } else {
            return *get_for(forever);
        }
    }
    // As get(); none: the wait timed out, the task goes on.
    std::optional<value> get_for(span timeout) {
        const auto how = wait_for(timeout);
        if (!how) return std::nullopt;
        if (*how != duly::outcome::succeeded) rethrow(*how);
        std::error_code code;
        auto got = take(code);
        detail::require(code, "get of task " + shown());
        return got;
    }

    // A future that always resolves. The value goes to it; this handle can still cancel and wait.
    std::future<R> to_future() {
        struct promise {
            std::promise<R> answer;
            task self;
            void operator()(duly::outcome) {
                try {
                    if constexpr (std::is_void_v<R>) {
                        self.get();
                        answer.set_value();
                    } else {
                        answer.set_value(self.get());
                    }
                } catch (...) {
                    answer.set_exception(std::current_exception());
                }
            }
        };
        promise told{{}, again()};
        auto future = told.answer.get_future();
        on_complete(std::move(told));
        return future;
    }
#endif

#if DULY_HPP_COROUTINES
    // Resumes the coroutine on the worker that ends the task, otherwise on a delivery thread, with what get() gives. A coroutine
    // that waits here must not be destroyed: cancel the task, and it goes on. (One that waits for a run may be.)
    auto operator co_await() noexcept {
        struct awaiter {
            task &self;
            bool await_ready() const noexcept { return self.outcome().has_value(); }
            // Not inlined: its frame must not become the coroutine's, which may be gone when on_complete returns.
            [[gnu::noinline]] bool await_suspend(std::coroutine_handle<> waiting) const {
                std::error_code code;
                // Once it is registered, the coroutine may have ended elsewhere: nothing of this frame is used again.
                self.on_complete([waiting]() { waiting.resume(); }, code);
                return !code;
            }
            R await_resume() const { return self.get(); }
        };
        return awaiter{*this};
    }
#endif

private:
    template <class Self> friend class detail::submits;
    friend class detail::admission<R>;
    template <class> friend class stream;
    explicit task(duly_task *owned) noexcept : any_task(owned) {}

    // The value of a succeeded task, for its first taker.
    std::optional<value> take(std::error_code &code) {
        void *taken = nullptr;
        const duly_status status = duly_task_take(native(), &taken);
        detail::leave(code, status);
        if (status != DULY_STATUS_OK) return std::nullopt;
        return static_cast<detail::cell<R> *>(taken)->take();
    }
#if DULY_HPP_EXCEPTIONS
    [[noreturn]] void rethrow(duly::outcome how) const {
        raise(how);
        std::terminate();
    }
    // One more handle, of this header only: the value still moves once.
    task again() const noexcept { return task(duly_task_retain(native())); }
#endif
};

} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
