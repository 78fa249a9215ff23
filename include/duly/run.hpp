// Submit and answer in one, which ends when its caller leaves. Part of duly.hpp.
// Keeps true: a caller that has left is told nothing more, unless it is being told just then; its task is cancelled, or was never
// accepted. Of a coroutine, whoever comes second of what suspends it and what answers it goes on with it.
#ifndef DULY_RUN_HPP
#define DULY_RUN_HPP

#include "duly/base.hpp"

#include <atomic>
#include <memory>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#if DULY_HPP_COROUTINES
#include <coroutine>
#endif

#include "duly/admission.hpp"
#include "duly/options.hpp"
#include "duly/task.hpp"
#include "duly/token.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

namespace detail {

// What a run and its caller share.
struct caller_here {
    duly::token token = nullptr;
    std::atomic<bool> left{false};
};

} // namespace detail

// The caller of a run: when it is destroyed, the caller has left. What waits for room leaves the line, and the task is cancelled
// with reason "caller_left".
class [[nodiscard]] running {
public:
    running() noexcept = default;
    explicit running(std::shared_ptr<detail::caller_here> of) noexcept : here_(std::move(of)) {}
    running(running &&) noexcept = default;
    running &operator=(running &&other) noexcept {
        leave();
        here_ = std::move(other.here_);
        return *this;
    }
    ~running() { leave(); }
    void leave() noexcept {
        if (!here_) return;
        here_->left = true;
        duly_token_cancel_with(here_->token.native(), "caller_left");
        here_.reset();
    }

private:
    std::shared_ptr<detail::caller_here> here_;
};

namespace detail {

// Submits, and calls told(task<R>, std::error_code) once: refused, or when the task has ended.
template <class R, class Told>
void begin_run(const duly_pool *pool, task_options options, const std::shared_ptr<caller_here> &here, callback<R> own, Told told) {
    here->token = (options.token() ? options.token() : token::current()).child();
    options.token(here->token);
    auto accepted = [here, told = std::move(told)](task<R> task, std::error_code code) mutable {
        if (code) {
            if (!here->left) told(std::move(task), code);
            return;
        }
        const any_task watched(task);
        watched.on_complete([here, told = std::move(told), task = std::move(task)]() mutable {
            if (!here->left) told(std::move(task), std::error_code());
        }, code);
    };
    using admission = told_admission<R, decltype(accepted)>;
    admission::start(std::make_unique<admission>(nullptr, std::move(own), std::move(accepted)), pool, options);
}

#if DULY_HPP_COROUTINES
// A run that a coroutine awaits.
template <class R> class [[nodiscard]] awaited_run {
public:
    awaited_run(const duly_pool *pool, const task_options &options, callback<R> &&own)
        : pool_(pool), options_(options), own_(std::move(own)), shared_(std::make_shared<shared>()), caller_(shared_) {}
    awaited_run(const awaited_run &) = delete;
    awaited_run &operator=(const awaited_run &) = delete;

    bool await_ready() const noexcept { return false; }
    // Not inlined: its frame must not become the coroutine's, which may be gone when the second of the two has come.
    [[gnu::noinline]] bool await_suspend(std::coroutine_handle<> waiting) {
        const auto mine = shared_;
        mine->waiting = waiting;
        begin_run<R>(pool_, options_, mine, std::move(own_), [mine](task<R> ended, std::error_code code) {
            mine->answer = std::move(ended);
            mine->code = code;
            if (mine->second.exchange(true)) mine->waiting.resume();
        });
        return !mine->second.exchange(true);
    }
    R await_resume() {
        const char *wrong = options_.wrong();
        require(shared_->code, "run of task " + options_.shown() + (wrong ? std::string(", ") + wrong : std::string()));
        return shared_->answer.get();
    }

private:
    struct shared : caller_here {
        std::coroutine_handle<> waiting;
        task<R> answer;
        std::error_code code;
        std::atomic<bool> second{false};
    };

    const duly_pool *pool_;
    task_options options_;
    callback<R> own_;
    std::shared_ptr<shared> shared_;
    running caller_;
};
#endif

// What Self, a handle of a pool, runs.
template <class Self> class runs {
public:
    // submit_async and the answer in one: calls told(task<R>, std::error_code) once, with the task that has ended, or with why it
    // was refused; on the worker that ended it, otherwise on a delivery thread, or here and now. It must not throw. Keep what it
    // gives until then: it is the caller.
    template <class F, class Told, class = std::enable_if_t<is_callback<F>>>
    running run(const task_options &options, F &&callable, Told &&told) const {
        using R = result_t<F>;
        static_assert(std::is_invocable_v<std::decay_t<Told> &, task<R>, std::error_code>, "told(task<R>, std::error_code)");
        const auto here = std::make_shared<caller_here>();
        begin_run<R>(self(), options, here, callback<R>(std::forward<F>(callable)), std::decay_t<Told>(std::forward<Told>(told)));
        return running(here);
    }

#if DULY_HPP_COROUTINES
    // The same for a coroutine: co_await gives what get() gives, or throws duly::error if it was refused. A coroutine that is
    // destroyed while it waits has left; whoever destroys it sees to it that it is not resumed at the same time.
    template <class F, class = std::enable_if_t<is_callback<F>>>
    awaited_run<result_t<F>> run(const task_options &options, F &&callable) const {
        return {self(), options, callback<result_t<F>>(std::forward<F>(callable))};
    }
    template <class F, class = std::enable_if_t<is_callback<F>>> awaited_run<result_t<F>> run(F &&callable) const {
        return run(task_options(), std::forward<F>(callable));
    }
#endif

private:
    const duly_pool *self() const noexcept { return static_cast<const Self *>(this)->native(); }
};

} // namespace detail
} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
