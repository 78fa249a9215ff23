// The queues of a pool. Part of duly.hpp.
#ifndef DULY_QUEUE_HPP
#define DULY_QUEUE_HPP

#include <cstddef>
#include <string>
#include <system_error>
#include <utility>

#include "duly/error.hpp"
#include "duly/handle.hpp"
#include "duly/options.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

// The numbers of a queue.
using queue_numbers = duly_queue_numbers;

// A limit that is none: of set_limit, set_key_limit, set_key_capacity.
inline constexpr std::size_t unlimited = static_cast<std::size_t>(-1);

// Options of a queue: queue_options().name("mail").limit(2). What is not set has its default, as duly_queue_options says.
class queue_options {
public:
    // Names it in messages.
    queue_options &name(std::string value) {
        name_ = std::move(value);
        return *this;
    }
    // Tasks that may be queued, at least 1. Default 1024.
    queue_options &capacity(std::size_t value) { return set(options_.capacity, value, "capacity(0)"); }
    // Producers that may wait for room. Default: as capacity.
    queue_options &max_blocked_producers(std::size_t value) {
        options_.max_blocked_producers = value == 0 ? DULY_NONE : detail::option(value);
        return *this;
    }
    // What submit does when it is full. Default: block.
    queue_options &overflow(duly::overflow value) {
        options_.overflow = static_cast<std::int32_t>(value);
        return *this;
    }
    // How many of its tasks are started before it is the next queue's turn, at least 1. Default 1.
    queue_options &weight(std::size_t value) { return set(options_.weight, value, "weight(0)"); }
    // How many of its callbacks may run at the same time, at least 1. Default: as many as there are workers.
    queue_options &limit(std::size_t value) { return set(options_.limit, value, "limit(0)"); }
    // How many callbacks of tasks with the same key may run at the same time, at least 1. Default: no limit.
    queue_options &key_limit(std::size_t value) { return set(options_.key_limit, value, "key_limit(0)"); }
    // How many tasks of the same key may be queued, at least 1. Default: as many as there is room.
    queue_options &key_capacity(std::size_t value) { return set(options_.key_capacity, value, "key_capacity(0)"); }

    // As duly.h takes them: valid while this object is and does not change.
    duly_queue_options native() const noexcept {
        duly_queue_options options = options_;
        options.name = name_.empty() ? nullptr : name_.c_str();
        return options;
    }
    // What was set to something that cannot be meant; null if nothing was.
    const char *wrong() const noexcept { return wrong_; }

private:
    queue_options &set(std::uint32_t &field, std::size_t value, const char *what) {
        if (value == 0) wrong_ = what;
        field = detail::option(value);
        return *this;
    }

    duly_queue_options options_ = DULY_QUEUE_OPTIONS_INIT;
    std::string name_;
    const char *wrong_ = nullptr;
};

// One of the queues of a pool: task_options().in(queue). It is the pool's: handles come and go. Each setter works while the
// queue is used and answers invalid_argument (0, or beyond what can be) or shut_down.
class queue : public detail::handle<duly_queue, duly_queue_retain, duly_queue_release> {
public:
    using handle::handle;
    // Takes the caller's reference over.
    static queue adopt(duly_queue *owned) noexcept { return queue(owned); }

    std::string name() const { return duly_queue_name(native()); }
    void set_weight(std::size_t value, std::error_code &code) const noexcept {
        detail::leave(code, duly_queue_set_weight(native(), detail::option(value)));
    }
    void set_capacity(std::size_t value, std::error_code &code) const noexcept {
        detail::leave(code, duly_queue_set_capacity(native(), detail::option(value)));
    }
    void set_limit(std::size_t value, std::error_code &code) const noexcept { set(duly_queue_set_limit, value, code); }
    void set_key_limit(std::size_t value, std::error_code &code) const noexcept {
        set(duly_queue_set_key_limit, value, code);
    }
    void set_key_capacity(std::size_t value, std::error_code &code) const noexcept {
        set(duly_queue_set_key_capacity, value, code);
    }
    // From when it returns on, none of its tasks is started; undone by resume.
    void pause() const noexcept { duly_queue_pause(native()); }
    void resume() const noexcept { duly_queue_resume(native()); }
    queue_numbers stats() const noexcept {
        queue_numbers numbers{};
        duly_queue_stats(native(), &numbers, sizeof numbers);
        return numbers;
    }

#if DULY_HPP_EXCEPTIONS
    void set_weight(std::size_t value) const { required(&queue::set_weight, value, "set_weight"); }
    void set_capacity(std::size_t value) const { required(&queue::set_capacity, value, "set_capacity"); }
    void set_limit(std::size_t value) const { required(&queue::set_limit, value, "set_limit"); }
    void set_key_limit(std::size_t value) const { required(&queue::set_key_limit, value, "set_key_limit"); }
    void set_key_capacity(std::size_t value) const { required(&queue::set_key_capacity, value, "set_key_capacity"); }
#endif

private:
    explicit queue(duly_queue *owned) noexcept : handle(owned) {}

    // Of duly.h 0 is no limit; here that is `unlimited`, and 0 cannot be meant.
    template <class Set> void set(Set how, std::size_t value, std::error_code &code) const noexcept {
        detail::leave(code, value == 0 ? DULY_STATUS_INVALID_ARGUMENT
                                       : how(native(), value == unlimited ? 0 : detail::option(value)));
    }
#if DULY_HPP_EXCEPTIONS
    void required(void (queue::*setter)(std::size_t, std::error_code &) const noexcept, std::size_t value,
                  const char *what) const {
        std::error_code code;
        (this->*setter)(value, code);
        detail::require(code, std::string(what) + "(" + std::to_string(value) + ") of queue \"" + name() + "\"");
    }
#endif

    friend class pool;
};

} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
