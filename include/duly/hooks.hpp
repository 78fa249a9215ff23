// What a pool tells its hook, and context that crosses submit. Part of duly.hpp.
// Keeps true: what a pool was given lives until its last call has returned, however long the options live; it is destroyed
// once, with the last of the pools and options that have it.
#ifndef DULY_HOOKS_HPP
#define DULY_HOOKS_HPP

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

#include "duly/callback.hpp"
#include "duly/error.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

// What a pool's hook is told of; duly.h says what each has. Ignore what you do not know.
enum class event_kind : std::int32_t {
    worker_start = DULY_EVENT_WORKER_START,
    worker_stop = DULY_EVENT_WORKER_STOP,
    late = DULY_EVENT_LATE,
    stalled = DULY_EVENT_STALLED,
    unobserved = DULY_EVENT_UNOBSERVED,
};

// What happened. Valid, with its texts, until the hook returns.
class event {
public:
    explicit event(const duly_event *what) noexcept : what_(what) {}
    event(const event &) = delete;
    event &operator=(const event &) = delete;

    event_kind kind() const noexcept { return static_cast<event_kind>(what_->kind); }
    // The name of the pool; the label of the task, "" without; what there is to say besides.
    std::string_view pool() const noexcept { return what_->pool; }
    std::string_view label() const noexcept { return what_->label; }
    std::string_view text() const noexcept { return what_->text; }
    // The outcome of the task; how the callback of a late task ended.
    std::optional<duly::outcome> outcome() const noexcept { return one_of(what_->outcome); }
    std::optional<duly::outcome> callback() const noexcept { return one_of(what_->callback); }
    // How long the callback of a late task ran, to a few milliseconds.
    std::chrono::nanoseconds ran() const noexcept {
        return std::chrono::nanoseconds(static_cast<std::int64_t>(what_->ran_ns));
    }
    // The number of the worker; the tasks that wait behind a stall.
    std::uint64_t number() const noexcept { return what_->number; }
    const duly_event *native() const noexcept { return what_; }

private:
    static std::optional<duly::outcome> one_of(std::int32_t how) noexcept {
        return how == 0 ? std::nullopt : std::optional<duly::outcome>(static_cast<duly::outcome>(how));
    }
    const duly_event *what_;
};

namespace detail {

// One owner more of something shared, as user_data of duly.h.
template <class T> struct owner {
    static void *of(const std::shared_ptr<T> &shared) { return new std::shared_ptr<T>(shared); }
    static T &at(void *data) noexcept { return **static_cast<std::shared_ptr<T> *>(data); }
    static void drop(void *data) noexcept { delete static_cast<std::shared_ptr<T> *>(data); }
};

class any_hook {
public:
    virtual ~any_hook() = default;
    virtual void tell(const event &what) = 0;
    static void call(void *data, const duly_event *what) { owner<any_hook>::at(data).tell(event(what)); }
};

template <class F> class hook final : public any_hook {
public:
    template <class G> explicit hook(G &&callable) : callable_(std::forward<G>(callable)) {}
    void tell(const event &what) override { callable_(what); }

private:
    F callable_;
};

class any_carry {
public:
    virtual ~any_carry() = default;
    virtual void *capture() = 0;
    virtual void *enter(void *captured) = 0;
    virtual void exit(void *entered) noexcept = 0;
    virtual void release(void *captured) noexcept = 0;

    static void *call_capture(void *data) { return owner<any_carry>::at(data).capture(); }
    static void *call_enter(void *data, void *captured) { return owner<any_carry>::at(data).enter(captured); }
    static void call_exit(void *data, void *, void *entered) { owner<any_carry>::at(data).exit(entered); }
    static void call_release(void *data, void *captured) { owner<any_carry>::at(data).release(captured); }
};

template <class Capture, class Enter> class carry final : public any_carry {
    using captured = std::decay_t<std::invoke_result_t<Capture &>>;
    using entered = std::invoke_result_t<Enter &, captured &>;
    static_assert(!std::is_void_v<captured>, "capture returns what is carried");
    static_assert(!std::is_reference_v<entered>, "enter returns what its end leaves the context by, or nothing");

public:
    carry(Capture capture, Enter enter) : capture_(std::move(capture)), enter_(std::move(enter)) {}

    void *capture() override {
        captured got = capture_();
        return is_null(got) ? nullptr : new captured(std::move(got));
    }
    void *enter(void *got) override {
        if constexpr (std::is_void_v<entered>) {
            enter_(*static_cast<captured *>(got));
            return nullptr;
        } else {
            return new entered(enter_(*static_cast<captured *>(got)));
        }
    }
    void exit([[maybe_unused]] void *inside) noexcept override {
        if constexpr (!std::is_void_v<entered>) delete static_cast<entered *>(inside);
    }
    void release(void *got) noexcept override { delete static_cast<captured *>(got); }

private:
    Capture capture_;
    Enter enter_;
};

// What options lend a pool until duly_pool_new has taken it.
class lent {
public:
    lent(const std::shared_ptr<any_hook> &told, const std::shared_ptr<any_carry> &carried, duly_pool_options &options)
        : options_(&options) {
        if (told) {
            options.hook = &any_hook::call;
            options.hook_data = owner<any_hook>::of(told);
            options.hook_drop = &owner<any_hook>::drop;
        }
        if (carried) {
            options.carry_data = owner<any_carry>::of(carried);
            options.carry_drop = &owner<any_carry>::drop;
            options.carry_capture = &any_carry::call_capture;
            options.carry_enter = &any_carry::call_enter;
            options.carry_exit = &any_carry::call_exit;
            options.carry_release = &any_carry::call_release;
        }
    }
    lent(const lent &) = delete;
    lent &operator=(const lent &) = delete;
    ~lent() {
        if (options_ && options_->hook_drop) options_->hook_drop(options_->hook_data);
        if (options_ && options_->carry_drop) options_->carry_drop(options_->carry_data);
    }
    // It is the pool's.
    void keep() noexcept { options_ = nullptr; }

private:
    duly_pool_options *options_;
};

} // namespace detail

} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
