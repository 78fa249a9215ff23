// Completion queues: tasks that have ended, for an event loop to take. Part of duly.hpp.
#ifndef DULY_COMPLETIONS_HPP
#define DULY_COMPLETIONS_HPP

#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>
#include <vector>

#include "duly/task.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

// A task that has ended, with the number that was given at submit.
struct completion {
    any_task task;
    std::uint64_t tag;
    duly::outcome outcome;
};

// Tasks that name it with task_options().report_to(completions, tag) are put here when they have ended, each once. A place is
// taken by the submit, so that delivering waits for nobody. Copies are further handles of the same queue.
class completions : public detail::handle<duly_completions, duly_completions_retain, duly_completions_release> {
public:
    using handle::handle;

    // With so many places, at least 1: for tasks that are under way or wait to be taken. Error: invalid_argument.
    static completions make(std::size_t capacity, std::error_code &code) noexcept {
        duly_completions *made = nullptr;
        detail::leave(code, duly_completions_new(capacity, &made));
        return completions(made);
    }

    // A descriptor that is readable exactly while completions wait to be taken. Only poll it; it is closed with the last
    // handle. -1 with a code.
    int fd(std::error_code &code) const noexcept {
        int descriptor = -1;
        detail::leave(code, duly_completions_fd(native(), &descriptor));
        return descriptor;
    }

    // Takes up to `most` (at most 256 a call): waits until there is one, at most that long; none: there was none.
    std::vector<completion> take(span timeout, std::size_t most = 256) const {
        duly_completion taken[256];
        std::size_t count = 0;
        std::vector<completion> all;
        // Room before: once it is taken, nothing may fail until every task has its handle.
        most = most < 256 ? most : 256;
        all.reserve(most);
        if (duly_completions_take(native(), timeout.nanoseconds(), taken, most, &count) != DULY_STATUS_OK) return all;
        for (std::size_t i = 0; i < count; i++)
            all.push_back({any_task::adopt(taken[i].task), taken[i].tag, detail::as_outcome(taken[i].outcome)});
        return all;
    }

    std::size_t free_places() const noexcept { return duly_completions_free_places(native()); }

#if DULY_HPP_EXCEPTIONS
    explicit completions(std::size_t capacity) {
        std::error_code code;
        *this = make(capacity, code);
        detail::require(code, "new completions of capacity " + std::to_string(capacity));
    }
    int fd() const {
        std::error_code code;
        const int descriptor = fd(code);
        detail::require(code, "descriptor of completions");
        return descriptor;
    }
#endif

private:
    explicit completions(duly_completions *owned) noexcept : handle(owned) {}
};

} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
