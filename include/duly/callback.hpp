// Callables as duly.h takes them: (run, user_data, drop), with their value or exception. Part of duly.hpp.
// Keeps true:
// 1. A callable is destroyed once, when it has returned or will not run: before the task is released.
// 2. A value is moved out by whom duly_task_take gave it to, or destroyed by duly's drop; never both.
// 3. What a callable throws is the object of its task's failure: every handle of the task has it, of whatever kind.
#ifndef DULY_CALLBACK_HPP
#define DULY_CALLBACK_HPP

#include "duly/base.hpp"

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#if DULY_HPP_EXCEPTIONS && defined(__GLIBCXX__)
#include <cxxabi.h>
#endif
#if DULY_HPP_STOP_TOKEN
#include <stop_token>
#endif

#include "duly/context.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

namespace detail {

struct cannot_be_called {};

// What a callable returns when it is called as callbacks are.
template <class F> auto call_result() {
    if constexpr (std::is_invocable_v<F, context &>) {
        return std::invoke_result<F, context &>();
    } else if constexpr (std::is_invocable_v<F>) {
        return std::invoke_result<F>();
#if DULY_HPP_STOP_TOKEN
    } else if constexpr (std::is_invocable_v<F, std::stop_token>) {
        return std::invoke_result<F, std::stop_token>();
#endif
    } else {
        return std::common_type<cannot_be_called>();
    }
}
template <class F> using result_t = std::decay_t<typename decltype(call_result<std::decay_t<F>>())::type>;
template <class F> inline constexpr bool is_callback = !std::is_same_v<result_t<F>, cannot_be_called>;

template <class F> decltype(auto) call(F &&callable, context &here) {
    if constexpr (std::is_invocable_v<F, context &>) {
        return std::invoke(std::forward<F>(callable), here);
    } else if constexpr (std::is_invocable_v<F>) {
        return std::invoke(std::forward<F>(callable));
#if DULY_HPP_STOP_TOKEN
    } else {
        std::stop_source source;
        here.on_cancel([source]() mutable { source.request_stop(); });
        return std::invoke(std::forward<F>(callable), source.get_token());
#endif
    }
}

// What stands for the value of a callback that returns nothing.
template <class R> using value_t = std::conditional_t<std::is_void_v<R>, std::monostate, R>;

#if DULY_HPP_EXCEPTIONS
// What a callable threw, as the object of a failure; its drop says that it is one.
struct thrown {
    static void drop(void *data) noexcept { delete static_cast<std::exception_ptr *>(data); }
    // While an exception is being handled.
    static void keep(const context &here) noexcept {
        auto *const held = new (std::nothrow) std::exception_ptr(std::current_exception());
        if (held && duly_call_set_failure(here.native(), held, &drop) != DULY_STATUS_OK) drop(held);
    }
    static std::exception_ptr of(const duly_task *task) noexcept {
        void *held = nullptr;
        if (duly_task_failure(task, &drop, &held) != DULY_STATUS_OK) return nullptr;
        return *static_cast<std::exception_ptr *>(held);
    }
};
#endif

// Calls `body` and gives what duly_run_fn returns. (A forced unwind is caught as a reference to nothing.)
template <class Body> __attribute__((no_sanitize("null"))) std::int32_t guarded(context &here, Body body) {
#if DULY_HPP_EXCEPTIONS
    const auto threw = [&](std::int32_t code, const char *what) {
        thrown::keep(here);
        duly_call_set_message(here.native(), what);
        return code;
    };
    try {
        body();
    }
#if defined(__GLIBCXX__)
    // pthread_exit and thread cancellation: duly aborts with a message.
    catch (const abi::__forced_unwind &) {
        throw;
    }
#endif
    catch (const failed &thrown) {
        return threw(thrown.code(), thrown.what());
    } catch (const std::exception &thrown) {
        return threw(1, thrown.what());
    } catch (...) {
        return threw(1, "an exception that is no std::exception");
    }
#else
    body();
#endif
    return here.code();
}

// What a task of C++ keeps: its callable until it is released, then its value until somebody takes it or the handle goes.
// References: a callback that is not accepted yet, duly's user_data, duly's value.
template <class R> class cell {
public:
    cell(const cell &) = delete;
    cell &operator=(const cell &) = delete;

    void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
    void release() noexcept {
        if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
    }

    // duly_run_fn: the body of the task.
    static std::int32_t run(void *data, duly_call *call) {
        auto *me = static_cast<cell *>(data);
        context here(call);
        const std::int32_t code = guarded(here, [&] { me->invoke(here); });
        if (code != 0) {
            me->value_.reset();
            return code;
        }
        me->retain();
        if (duly_call_set_value(call, me, &cell::drop_value) != DULY_STATUS_OK) me->release();
        return 0;
    }

    // duly_drop_fn of the callback: it will not run (again).
    static void drop(void *data) noexcept {
        auto *me = static_cast<cell *>(data);
        me->forget();
        me->release();
    }

    // duly_drop_fn of the value: nobody took it.
    static void drop_value(void *data) noexcept {
        auto *me = static_cast<cell *>(data);
        me->value_.reset();
        me->release();
    }

    // The value, for whom duly_task_take gave it to.
    value_t<R> take() {
        struct guard {
            cell *me;
            ~guard() { drop_value(me); }
        } const taken{this};
        return std::move(*value_);
    }
    // The value where nobody takes it.
    const value_t<R> &look() const noexcept { return *value_; }

protected:
    cell() = default;
    virtual ~cell() = default;
    virtual void invoke(context &here) = 0;
    virtual void forget() noexcept = 0;

    std::optional<value_t<R>> value_;

private:
    std::atomic<std::uint32_t> references_{1};
};

template <class R, class F> class full_cell final : public cell<R> {
public:
    template <class G> explicit full_cell(G &&callable) : callable_(std::forward<G>(callable)) {}
    // Whatever the callable's destructor says of itself: one that throws ends the process.
    ~full_cell() noexcept override {}

private:
    void invoke(context &here) override {
        if constexpr (std::is_void_v<R>) {
            call(std::move(*callable_), here);
            this->value_.emplace();
        } else {
            this->value_.emplace(call(std::move(*callable_), here));
        }
    }
    void forget() noexcept override { callable_.reset(); }

    std::optional<F> callable_;
};

// Whom callbacks are handed to.
template <class Self> class submits;
template <class R> class admission;

template <class R> struct release_cell {
    void operator()(cell<R> *me) const noexcept { me->release(); }
};
template <class R> using cell_ptr = std::unique_ptr<cell<R>, release_cell<R>>;

// Whether a callable is none: a null pointer, an empty std::function. (A lambda compares with nullptr too, and is never.)
template <class F, class = void> inline constexpr bool can_be_null = std::is_pointer_v<F> || std::is_member_pointer_v<F>;
template <class F>
inline constexpr bool can_be_null<F, std::enable_if_t<std::is_class_v<F> && std::is_constructible_v<F, std::nullptr_t>,
                                                      decltype(void(std::declval<const F &>() == nullptr))>> = true;
template <class F> bool is_null(const F &callable) noexcept {
    if constexpr (can_be_null<F>) {
        return callable == nullptr;
    } else {
        return false;
    }
}

} // namespace detail

template <class R> class single_flight;

// A callable that may be submitted: keep it in one of these where a refused submit must give it back. Move-only; empty
// once it was accepted. Empty, or made of a null function pointer or an empty std::function, it is refused.
template <class R> class callback {
public:
    callback() noexcept = default;
    template <class F, class = std::enable_if_t<detail::is_callback<F> && !std::is_same_v<std::decay_t<F>, callback>>>
    callback(F &&callable) {
        if (detail::is_null<std::decay_t<F>>(callable)) return;
        cell_.reset(new detail::full_cell<R, std::decay_t<F>>(std::forward<F>(callable)));
    }
    explicit operator bool() const noexcept { return cell_ != nullptr; }

private:
    template <class Self> friend class detail::submits;
    friend class detail::admission<R>;
    template <class> friend class single_flight;
    detail::cell_ptr<R> cell_;
};
template <class F> callback(F) -> callback<detail::result_t<F>>;

} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
