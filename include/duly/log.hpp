// Where the log lines of the library go. Part of duly.hpp.
#ifndef DULY_LOG_HPP
#define DULY_LOG_HPP

#include <cstdint>
#include <memory>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#include "duly/callback.hpp"
#include "duly/error.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

// How much a log line matters.
enum class log_level : std::int32_t {
    error = DULY_LOG_ERROR,
    warn = DULY_LOG_WARN,
    info = DULY_LOG_INFO,
    debug = DULY_LOG_DEBUG,
    trace = DULY_LOG_TRACE,
};

namespace detail {
template <class F> struct logger {
    F callable;
    static void tell(void *data, std::int32_t level, const char *line) {
        static_cast<logger *>(data)->callable(static_cast<log_level>(level), std::string_view(line));
    }
    static void drop(void *data) noexcept { delete static_cast<logger *>(data); }
};
} // namespace detail

// Has every log line of the library, of all its pools, handed to F(log_level, std::string_view), in place of what was set
// before, which is destroyed when no call of it is under way. It is called by any thread, several at once, and must not throw.
// Until the first is set, lines go nowhere. Error: unsupported, where a Rust program has set a logger of its own;
// invalid_argument, for a null one.
template <class F> void set_log(F &&callable, std::error_code &code) {
    using logger = detail::logger<std::decay_t<F>>;
    static_assert(std::is_invocable_v<std::decay_t<F> &, log_level, std::string_view>, "F(log_level, std::string_view)");
    if (detail::is_null<std::decay_t<F>>(callable)) return detail::leave(code, DULY_STATUS_INVALID_ARGUMENT);
    auto data = std::unique_ptr<logger>(new logger{std::forward<F>(callable)});
    const duly_status status = duly_set_log(&logger::tell, data.get(), &logger::drop);
    if (status == DULY_STATUS_OK) (void)data.release();
    detail::leave(code, status);
}
// From now on lines go nowhere.
inline void unset_log() noexcept { duly_set_log(nullptr, nullptr, nullptr); }

#if DULY_HPP_EXCEPTIONS
template <class F> void set_log(F &&callable) {
    std::error_code code;
    set_log(std::forward<F>(callable), code);
    detail::require(code, "set_log");
}
#endif

} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
