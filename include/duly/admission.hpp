// A submit that waits for room without a thread. Part of duly.hpp.
// Keeps true: the callable is duly's while the submit is in line; refused, it goes back to where it came from. Who is told may
// end what is here: it is the last thing done.
#ifndef DULY_ADMISSION_HPP
#define DULY_ADMISSION_HPP

#include "duly/base.hpp"

#include <memory>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#if DULY_HPP_COROUTINES
#include <coroutine>
#endif

#include "duly/options.hpp"
#include "duly/task.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {
namespace detail {

// A submit on its way.
template <class R> class admission {
public:
    admission(const admission &) = delete;
    admission &operator=(const admission &) = delete;

protected:
    using resumes = void (*)(admission *me);
    admission(callback<R> *prepared, resumes resume) noexcept : prepared_(prepared), resume_(resume) {}
    ~admission() = default;

    // True: it is in line, and this may be gone already. False: it is settled.
    bool begin(const duly_pool *pool, const task_options &options) {
        duly_task *accepted = nullptr;
        const duly_task_options plain = options.native();
        data_ = prepared_->cell_.release();
        const duly_status status = options.wrong() ? DULY_STATUS_INVALID_ARGUMENT
                                                   : duly_submit_async(pool, &plain, data_ ? &cell<R>::run : nullptr, data_,
                                                                       &cell<R>::drop, &admission::tell, this, &accepted);
        if (status == DULY_STATUS_PENDING) return true;
        settle(status, accepted);
        return false;
    }

    task<R> accepted_;
    std::error_code code_;

private:
    static void tell(void *data, duly_status status, duly_task *accepted) {
        auto *const me = static_cast<admission *>(data);
        me->settle(status, accepted);
        me->resume_(me);
    }
    void settle(duly_status status, duly_task *accepted) noexcept {
        leave(code_, status);
        if (status == DULY_STATUS_OK) {
            accepted_ = task<R>(accepted);
        } else {
            prepared_->cell_.reset(data_);
        }
    }

    callback<R> *prepared_;
    resumes resume_;
    cell<R> *data_ = nullptr;
};

// One that tells a callable.
template <class R, class Told> class told_admission final : public admission<R> {
public:
    template <class G>
    told_admission(callback<R> *prepared, callback<R> &&own, G &&told)
        : admission<R>(prepared ? prepared : &own_, &told_admission::finish), own_(std::move(own)), told_(std::forward<G>(told)) {}
    static void start(std::unique_ptr<told_admission> me, const duly_pool *pool, const task_options &options) {
        told_admission *const it = me.release();
        if (!it->begin(pool, options)) finish(it);
    }

private:
    static void finish(admission<R> *base) {
        const std::unique_ptr<told_admission> me(static_cast<told_admission *>(base));
        me->told_(std::move(me->accepted_), me->code_);
    }

    callback<R> own_;
    Told told_;
};

#if DULY_HPP_COROUTINES
// One that a coroutine awaits.
template <class R> class [[nodiscard]] awaited_admission final : public admission<R> {
public:
    awaited_admission(const duly_pool *pool, const task_options &options, callback<R> *prepared, callback<R> &&own)
        : admission<R>(prepared ? prepared : &own_, &awaited_admission::resume), pool_(pool), options_(options),
          own_(std::move(own)) {}

    bool await_ready() const noexcept { return false; }
    // Not inlined: its frame must not become the coroutine's, which may be gone when begin returns.
    [[gnu::noinline]] bool await_suspend(std::coroutine_handle<> waiting) {
        waiting_ = waiting;
        return this->begin(pool_, options_);
    }
    task<R> await_resume() {
        const char *wrong = options_.wrong();
        require(this->code_, "submit of task " + options_.shown() + (wrong ? std::string(", ") + wrong : std::string()));
        return std::move(this->accepted_);
    }

private:
    static void resume(admission<R> *me) { static_cast<awaited_admission *>(me)->waiting_.resume(); }

    const duly_pool *pool_;
    task_options options_;
    callback<R> own_;
    std::coroutine_handle<> waiting_;
};
#endif

// What Self, a handle of a pool, submits to.
template <class Self> class admits {
public:
    // Submits a callable, waiting for room without a thread, and calls told(task<R>, std::error_code) once: here and now if there
    // was room or the submit was refused, otherwise on a delivery thread. Ends of the wait: room, submit_timeout, the task's
    // own timeout, a token that the options name, a shutdown. It must not throw. A refused duly::callback handed in as an
    // lvalue has its callable again when told is called; it must live until then.
    template <class F, class Told, class = std::enable_if_t<is_callback<F>>>
    void submit_async(const task_options &options, F &&callable, Told &&told) const {
        begin<result_t<F>>(options, nullptr, callback<result_t<F>>(std::forward<F>(callable)), std::forward<Told>(told));
    }
    template <class R, class Told>
    void submit_async(const task_options &options, callback<R> &prepared, Told &&told) const {
        begin<R>(options, &prepared, callback<R>(), std::forward<Told>(told));
    }

#if DULY_HPP_COROUTINES
    // The same for a coroutine: co_await gives the task, or throws duly::error if it was refused. Goes on here if it need not
    // wait, otherwise on a delivery thread. The pool must live until it is awaited. A coroutine that waits here must not be
    // destroyed: cancel a token that the options name, and it goes on. (One that waits for a run may be.)
    template <class F, class = std::enable_if_t<is_callback<F>>>
    awaited_admission<result_t<F>> submit_async(const task_options &options, F &&callable) const {
        return {self(), options, nullptr, callback<result_t<F>>(std::forward<F>(callable))};
    }
    template <class R> awaited_admission<R> submit_async(const task_options &options, callback<R> &prepared) const {
        return {self(), options, &prepared, callback<R>()};
    }
    template <class F, class = std::enable_if_t<is_callback<F>>>
    awaited_admission<result_t<F>> submit_async(F &&callable) const {
        return submit_async(task_options(), std::forward<F>(callable));
    }
#endif

private:
    template <class R, class Told>
    void begin(const task_options &options, callback<R> *prepared, callback<R> &&own, Told &&told) const {
        using admission = told_admission<R, std::decay_t<Told>>;
        static_assert(std::is_invocable_v<std::decay_t<Told> &, task<R>, std::error_code>, "told(task<R>, std::error_code)");
        admission::start(std::make_unique<admission>(prepared, std::move(own), std::forward<Told>(told)), self(), options);
    }
    const duly_pool *self() const noexcept { return static_cast<const Self *>(this)->native(); }
};

} // namespace detail
} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
