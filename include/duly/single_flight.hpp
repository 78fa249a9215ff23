// Single flight: callers that want the same key at the same time share one run. Part of duly.hpp.
// Keeps true: the value of a run is one object, which lives until the last of its answers is gone; nobody moves it.
#ifndef DULY_SINGLE_FLIGHT_HPP
#define DULY_SINGLE_FLIGHT_HPP

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#include "duly/pool.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

// Options of a single flight: single_flight_options().handovers(1).run(task_options().timeout(2s)).
class single_flight_options {
public:
    // How often a run that panicked, was cancelled, shed or late is followed by another, of a caller that is still there.
    // Default 3.
    single_flight_options &handovers(std::size_t value) {
        options_.handovers = value == 0 ? DULY_NONE : detail::option(value);
        return *this;
    }
    // A run that fails is followed by another, too, instead of being the answer.
    single_flight_options &retry_failed() {
        options_.flags |= DULY_FLIGHT_RETRY_FAILED;
        return *this;
    }
    // The options of each run.
    single_flight_options &run(task_options value) {
        run_ = std::move(value);
        return *this;
    }

    // As duly.h takes them, but for `run`.
    duly_flight_options native() const noexcept { return options_; }
    const task_options &run() const noexcept { return run_; }
    const char *wrong() const noexcept { return run_.wrong(); }

private:
    duly_flight_options options_ = DULY_FLIGHT_OPTIONS_INIT;
    task_options run_;
};

// What a caller was told: an end like that of a task. Copies share the value, which all callers of the run look at.
template <class R> class flight_answer : public any_task {
public:
    using any_task::any_task;

    // The value; null for any other outcome. It lives as long as an answer of its run does.
    const detail::value_t<R> *value() const noexcept {
        void *shared = nullptr;
        if (duly_flight_value(native(), &shared) != DULY_STATUS_OK) return nullptr;
        return &static_cast<detail::cell<R> *>(shared)->look();
    }
#if DULY_HPP_EXCEPTIONS
    // The value. Throws what the callback threw, or a task_error: deadline_exceeded and cancelled are the caller's own, too.
    std::conditional_t<std::is_void_v<R>, void, const detail::value_t<R> &> get() const {
        const auto *const found = value();
        if (!found) raise(wait());
        if constexpr (!std::is_void_v<R>) return *found;
    }
#endif

private:
    template <class> friend class single_flight;
    explicit flight_answer(duly_task *owned) noexcept : any_task(owned) {}
};

// One run a key: callers that come while it is under way get its answer. Nothing is kept of a key once that is there. Copies are
// further handles of the same flight.
template <class R> class single_flight : public detail::handle<duly_flight, duly_flight_retain, duly_flight_release> {
public:
    using handle::handle;

    // Whose runs go to this pool; an empty handle, with its code, if there is none: invalid_argument.
    static single_flight make(const pool &where, const single_flight_options &options, std::error_code &code) {
        duly_flight *made = nullptr;
        const duly_task_options each = options.run().native();
        duly_flight_options plain = options.native();
        plain.run = &each;
        detail::leave(code, options.wrong() ? DULY_STATUS_INVALID_ARGUMENT : duly_flight_new(where.native(), &plain, &made));
        return single_flight(made);
    }

    // Waits for the answer of this key; if no run is under way, it is started with this callable, which gives an R. Of the
    // options timeout and token are the caller's own and end its wait only; the run is cancelled when its last caller has
    // left. An empty answer, with its code, if it was refused: the refusals of submit, would_deadlock, invalid_argument (another
    // option). The callable is destroyed, whether it was needed or not; a refused duly::callback<R> & still has it.
    template <class F, class = std::enable_if_t<detail::is_callback<F>>>
    flight_answer<R> run(std::string_view key, const task_options &options, F &&callable, std::error_code &code) const {
        static_assert(std::is_same_v<detail::result_t<F>, R>, "the runs of a single_flight<R> give an R");
        callback<R> prepared(std::forward<F>(callable));
        return run(key, options, prepared, code);
    }
    flight_answer<R> run(std::string_view key, const task_options &options, callback<R> &prepared, std::error_code &code) const {
        duly_task *answer = nullptr;
        const duly_task_options plain = options.native();
        detail::cell<R> *const data = prepared.cell_.get();
        const duly_status status =
            options.wrong() ? DULY_STATUS_INVALID_ARGUMENT
                            : duly_flight_run(native(), key.data(), key.size(), &plain, data ? &detail::cell<R>::run : nullptr,
                                              data, &detail::cell<R>::drop, &answer);
        detail::leave(code, status);
        if (status != DULY_STATUS_OK) return {};
        // It is duly's.
        (void)prepared.cell_.release();
        return flight_answer<R>(answer);
    }

    // How many keys are under way, and how many callers wait, of all keys.
    std::size_t keys() const noexcept { return duly_flight_key_count(native()); }
    std::size_t callers() const noexcept { return duly_flight_caller_count(native()); }

#if DULY_HPP_EXCEPTIONS
    explicit single_flight(const pool &where, const single_flight_options &options = single_flight_options()) {
        std::error_code code;
        *this = make(where, options, code);
        const char *wrong = options.wrong();
        detail::require(code, "new single flight" + (wrong ? std::string(", ") + wrong : std::string()));
    }
    template <class F, class = std::enable_if_t<detail::is_callback<F>>>
    flight_answer<R> run(std::string_view key, const task_options &options, F &&callable) const {
        std::error_code code;
        auto answer = run(key, options, std::forward<F>(callable), code);
        detail::require(code, "run of key \"" + std::string(key) + "\"");
        return answer;
    }
    template <class F, class = std::enable_if_t<detail::is_callback<F>>>
    flight_answer<R> run(std::string_view key, F &&callable) const {
        return run(key, task_options(), std::forward<F>(callable));
    }
#endif

private:
    explicit single_flight(duly_flight *owned) noexcept : handle(owned) {}
};

} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
