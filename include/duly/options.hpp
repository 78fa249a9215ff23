// Options of pools and tasks. Part of duly.hpp.
#ifndef DULY_OPTIONS_HPP
#define DULY_OPTIONS_HPP

#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "duly/hooks.hpp"
#include "duly/span.hpp"
#include "duly/token.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

enum class overflow : std::int32_t {
    block = DULY_OVERFLOW_BLOCK,
    reject = DULY_OVERFLOW_REJECT,
    drop_newest = DULY_OVERFLOW_DROP_NEWEST,
    drop_oldest = DULY_OVERFLOW_DROP_OLDEST,
    caller_runs = DULY_OVERFLOW_CALLER_RUNS,
};

enum class threads : std::int32_t { eager = DULY_THREADS_EAGER, on_demand = DULY_THREADS_ON_DEMAND };

// Options of a pool: pool_options().workers(4).capacity(100). What is not set has its default, as duly_pool_options says;
// what is set to 0 is 0.
class pool_options {
public:
    // Names the threads and log lines. Default "duly".
    pool_options &name(std::string value) {
        name_ = std::move(value);
        return *this;
    }
    // Threads that run callbacks, at least 1. Default: the parallelism this process may use.
    pool_options &workers(std::size_t value) { return at_least_1(options_.workers, value, "workers(0)"); }
    // Tasks that may be queued, at least 1. Default 1024.
    pool_options &capacity(std::size_t value) { return at_least_1(options_.capacity, value, "capacity(0)"); }
    // Producers that may wait for room. Default: as capacity.
    pool_options &max_blocked_producers(std::size_t value) { return or_none(options_.max_blocked_producers, value); }
    // Threads that may replace stuck workers. Default: as workers.
    pool_options &max_replacements(std::size_t value) { return or_none(options_.max_replacements, value); }
    // What submit does when the queue is full. Default: block.
    pool_options &overflow(duly::overflow value) {
        options_.overflow = static_cast<std::int32_t>(value);
        return *this;
    }
    // When threads are made. Default: eager.
    pool_options &threads(duly::threads value) {
        options_.threads = static_cast<std::int32_t>(value);
        return *this;
    }
    // How long a task is overdue before its worker is replaced. Default 100 ms.
    pool_options &replace_after(span value) { return time(options_.replace_after_ns, value, "replace_after"); }
    // The time-out of every task that names none. Default: none. Set one.
    pool_options &default_timeout(span value) { return time(options_.default_timeout_ns, value, "default_timeout"); }
    // How long a pool whose last handle is gone drains in the background. Default 10 s.
    pool_options &drop_drain(span value) { return time(options_.drop_drain_ns, value, "drop_drain"); }
    // Stack of a worker in bytes. Default 2 MiB.
    pool_options &stack_size(std::size_t value) {
        options_.stack_size = value;
        return *this;
    }
    // Calls F(const duly::event &) when something happens: a worker starts or stops, a callback is late, the pool is
    // stalled, nobody looked at a failure. On any thread, several at once, with no lock of duly held; it must not throw.
    template <class F> pool_options &hook(F &&callable) {
        if (detail::is_null<std::decay_t<F>>(callable)) {
            wrong_ = "hook";
        } else {
            hook_ = std::make_shared<detail::hook<std::decay_t<F>>>(std::forward<F>(callable));
        }
        return *this;
    }
    // Context crosses submit: what capture() returns on the thread that submits is handed to enter(captured &) on the one
    // that runs the callback, before it; what enter returns, if anything, is destroyed after it. What was captured goes when
    // the last of that is over, or the task never runs; a captured null pointer is not entered. Both are called by several
    // threads at once and must not throw.
    template <class Capture, class Enter> pool_options &carry(Capture &&capture, Enter &&enter) {
        carry_ = std::make_shared<detail::carry<std::decay_t<Capture>, std::decay_t<Enter>>>(std::forward<Capture>(capture),
                                                                                            std::forward<Enter>(enter));
        return *this;
    }

    // As duly.h takes them, but for hook and carry: valid while this object is and does not change.
    duly_pool_options native() const noexcept {
        duly_pool_options options = options_;
        options.name = name_.empty() ? nullptr : name_.c_str();
        return options;
    }
    // What was set to something that cannot be meant; null if nothing was.
    const char *wrong() const noexcept { return wrong_; }

private:
    pool_options &at_least_1(std::uint32_t &field, std::size_t value, const char *what) {
        if (value == 0) wrong_ = what;
        field = detail::option(value);
        return *this;
    }
    pool_options &or_none(std::uint32_t &field, std::size_t value) {
        field = value == 0 ? DULY_NONE : detail::option(value);
        return *this;
    }
    pool_options &time(std::uint64_t &field, span value, const char *what) {
        field = detail::option(value, what, wrong_);
        return *this;
    }

    friend class pool;
    duly_pool_options options_ = DULY_POOL_OPTIONS_INIT;
    std::string name_;
    std::shared_ptr<detail::any_hook> hook_;
    std::shared_ptr<detail::any_carry> carry_;
    const char *wrong_ = nullptr;
};

// Options of a task: task_options().label("index").timeout(2s).
class task_options {
public:
    // Names the task in errors and reports.
    task_options &label(std::string value) {
        label_ = std::move(value);
        labelled_ = true;
        return *this;
    }
    // From the call of submit to the outcome. Default: the pool's default_timeout; forever for none.
    task_options &timeout(span value) { return time(options_.timeout_ns, value, "timeout"); }
    // How long submit may wait for room. Default: until there is room.
    task_options &submit_timeout(span value) { return time(options_.submit_timeout_ns, value, "submit_timeout"); }
    // Cancels the task when it is cancelled.
    task_options &token(duly::token value) {
        token_ = std::move(value);
        return *this;
    }
    const duly::token &token() const noexcept { return token_; }
    // The queue of the pool that the task goes into. Default: the pool's own.
    task_options &in(const detail::handle<duly_queue, duly_queue_retain, duly_queue_release> &queue) {
        queue_ = queue;
        return *this;
    }
    // Of tasks with the same key at most the queue's key_limit run at the same time, and keys take turns.
    task_options &key(std::string bytes) {
        key_ = std::move(bytes);
        return *this;
    }
    // What this submit does when the queue is full. Default: as the queue does. A try never waits: under block and caller_runs
    // it is queue_full.
    task_options &overflow(duly::overflow value) {
        options_.overflow = static_cast<std::int32_t>(value);
        return *this;
    }
    // The task is accepted now and started when this has passed, not earlier. Default: at once.
    task_options &delay(span value) {
        options_.delay_ns = detail::option(value, "delay", wrong_);
        return *this;
    }
    // Where the task is put when it has ended, with a number of the caller's; without a free place the submit is queue_full.
    task_options &report_to(const detail::handle<duly_completions, duly_completions_retain, duly_completions_release> &where,
                            std::uint64_t tag = 0) {
        completions_ = where;
        options_.tag = tag;
        return *this;
    }
    // Where it is submitted, for leaks(): DULY_HERE, or another text that lives until submit has returned.
    task_options &submitted_at(const char *place) {
        options_.submitted_at = place;
        return *this;
    }
    // Does not inherit the token and the remaining time of the callback that submits it.
    task_options &detached() {
        options_.flags |= DULY_TASK_DETACHED;
        return *this;
    }

    // As duly.h takes them: valid while this object is and does not change.
    duly_task_options native() const noexcept {
        duly_task_options options = options_;
        options.label = labelled_ ? label_.c_str() : nullptr;
        options.token = token_.native();
        options.queue = queue_.native();
        options.completions = completions_.native();
        options.key = key_ ? key_->data() : nullptr;
        options.key_size = key_ ? key_->size() : 0;
        return options;
    }
    const char *wrong() const noexcept { return wrong_; }
    // "label", for errors.
    std::string shown() const { return "\"" + label_ + "\""; }

private:
    task_options &time(std::uint64_t &field, span value, const char *what) {
        field = detail::option(value, what, wrong_);
        return *this;
    }

    duly_task_options options_ = DULY_TASK_OPTIONS_INIT;
    std::string label_;
    bool labelled_ = false;
    duly::token token_ = nullptr;
    detail::handle<duly_queue, duly_queue_retain, duly_queue_release> queue_;
    detail::handle<duly_completions, duly_completions_retain, duly_completions_release> completions_;
    std::optional<std::string> key_;
    const char *wrong_ = nullptr;
};

} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
