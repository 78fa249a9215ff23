// Tasks that may borrow. Part of duly.hpp.
// Keeps true: a task that was accepted is in the list until it is released; the list is empty when the scope is gone. Values
// are dropped with no lock held.
#ifndef DULY_TASK_SCOPE_HPP
#define DULY_TASK_SCOPE_HPP

#include <chrono>
#include <cstdio>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "duly/pool.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

// Tasks that may use what is around the scope: its end waits until every callback has returned and what it captured is
// gone. What is left `limit` after the end began is cancelled; a callback that still runs five seconds later ends the process
// with std::terminate and the name of the task: what it borrows is about to go. Left by an exception, the scope cancels its
// tasks first.
class task_scope {
public:
    explicit task_scope(pool where, span limit = std::chrono::seconds(25)) noexcept
        : pool_(std::move(where)), limit_(limit), unwinding_(std::uncaught_exceptions()) {}
    task_scope(const task_scope &) = delete;
    task_scope &operator=(const task_scope &) = delete;
    ~task_scope() {
        if (std::uncaught_exceptions() > unwinding_) cancel("the scope was left by an exception");
        end();
    }

    // As pool's.
    template <class F>
    auto submit(const task_options &options, F &&callable, std::error_code &code)
        -> decltype(std::declval<const pool &>().submit(options, std::forward<F>(callable), code)) {
        return keep([&] { return pool_.submit(options, std::forward<F>(callable), code); });
    }
    template <class F>
    auto try_submit(const task_options &options, F &&callable, std::error_code &code)
        -> decltype(std::declval<const pool &>().try_submit(options, std::forward<F>(callable), code)) {
        return keep([&] { return pool_.try_submit(options, std::forward<F>(callable), code); });
    }
#if DULY_HPP_EXCEPTIONS
    template <class F>
    auto submit(const task_options &options, F &&callable)
        -> decltype(std::declval<const pool &>().submit(options, std::forward<F>(callable))) {
        return keep([&] { return pool_.submit(options, std::forward<F>(callable)); });
    }
    template <class F>
    auto submit(F &&callable) -> decltype(std::declval<const pool &>().submit(std::forward<F>(callable))) {
        return keep([&] { return pool_.submit(std::forward<F>(callable)); });
    }
    template <class F>
    auto try_submit(const task_options &options, F &&callable)
        -> decltype(std::declval<const pool &>().try_submit(options, std::forward<F>(callable))) {
        return keep([&] { return pool_.try_submit(options, std::forward<F>(callable)); });
    }
    template <class F>
    auto try_submit(F &&callable) -> decltype(std::declval<const pool &>().try_submit(std::forward<F>(callable))) {
        return keep([&] { return pool_.try_submit(std::forward<F>(callable)); });
    }
#endif

    // Cancels what it has; callbacks that run go on until they look at their context.
    void cancel(const std::string &reason = "requested") {
        std::vector<any_task> all;
        {
            const std::lock_guard<std::mutex> locked(lock_);
            for (const node *at = first_.get(); at; at = at->next.get()) all.push_back(at->task);
        }
        for (const any_task &one : all) one.cancel(reason);
    }

    // The end, which the destructor does if nobody did.
    void end() noexcept {
        const auto start = std::chrono::steady_clock::now();
        while (const any_task one = first()) {
            const span passed = std::chrono::steady_clock::now() - start;
            const std::uint64_t limit = limit_.nanoseconds(), gone = passed.nanoseconds();
            const std::uint64_t left = limit == DULY_FOREVER ? limit : limit > gone ? limit - gone : 0;
            if (duly_task_wait_released(one.native(), left) != DULY_STATUS_OK) {
                one.cancel("its scope ended");
                // What was queued is destroyed on a delivery thread; a callback that looks at its context returns.
                if (!one.released_for(std::chrono::seconds(5))) die(one);
            }
            forget(one);
        }
    }

private:
    struct node;
    using chain = std::unique_ptr<node>;
    struct node {
        any_task task;
        chain next;
    };

    template <class Submit> auto keep(Submit submit) {
        sweep();
        // Made before: once the task is accepted, nothing may fail until it is in the list.
        chain fresh(new node);
        auto accepted = submit();
        if (accepted) {
            fresh->task = accepted;
            const std::lock_guard<std::mutex> locked(lock_);
            fresh->next = std::move(first_);
            first_ = std::move(fresh);
            count_++;
        }
        return accepted;
    }

    any_task first() noexcept {
        const std::lock_guard<std::mutex> locked(lock_);
        return first_ ? first_->task : any_task();
    }

    // Takes one out, if no sweep has.
    void forget(const any_task &task) noexcept {
        chain gone;
        const std::lock_guard<std::mutex> locked(lock_);
        for (chain *at = &first_; *at; at = &(*at)->next) {
            if ((*at)->task.native() != task.native()) continue;
            gone = std::move(*at);
            *at = std::move(gone->next);
            count_--;
            return;
        }
    }

    // Forgets what is released already, whenever the list has doubled. Values are dropped outside the lock.
    void sweep() {
        chain gone;
        {
            const std::lock_guard<std::mutex> locked(lock_);
            if (count_ < sweep_at_) return;
            for (chain *at = &first_; *at;) {
                if ((*at)->task.released_for(std::chrono::seconds(0))) {
                    chain one = std::move(*at);
                    *at = std::move(one->next);
                    one->next = std::move(gone);
                    gone = std::move(one);
                    count_--;
                } else {
                    at = &(*at)->next;
                }
            }
            sweep_at_ = count_ * 2 + 64;
        }
        while (gone) gone = chain(std::move(gone->next));
    }

    [[noreturn]] static void die(const any_task &running) noexcept {
        std::fprintf(stderr,
                     "duly: the callback of task \"%s\" still runs at the end of its task_scope, past the scope's limit; "
                     "what it borrows is about to go. Give it a longer limit, or a callback that looks at its context. "
                     "Terminating.\n",
                     duly_task_label(running.native()));
        std::terminate();
    }

    pool pool_;
    span limit_;
    int unwinding_;
    std::mutex lock_;
    chain first_;
    std::size_t count_ = 0;
    std::size_t sweep_at_ = 64;
};

} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
