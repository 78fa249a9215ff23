// Spans of time from any duration, and how options take them. Part of duly.hpp.
#ifndef DULY_SPAN_HPP
#define DULY_SPAN_HPP

#include <chrono>
#include <optional>
#include <ratio>
#include <type_traits>

#include "duly/base.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

// A span of time, from any duration. Too long is the longest there is, parts of a nanosecond are rounded up (never early).
class span {
public:
    template <class Rep, class Period>
    constexpr span(std::chrono::duration<Rep, Period> value) noexcept : span(convert<Rep, Period>(value.count())) {}

    // Without end.
    static constexpr span unlimited() noexcept { return span(DULY_FOREVER, kind::sound); }

    // False for NaN and for negative durations.
    constexpr bool is_sound() const noexcept { return kind_ == kind::sound; }
    // How long a wait may take: a negative one only looks.
    constexpr std::uint64_t nanoseconds() const noexcept { return ns_; }

private:
    enum class kind { sound, negative, no_number };
    constexpr span(std::uint64_t ns, kind which) noexcept : ns_(ns), kind_(which) {}

    template <class Rep, class Period> static constexpr span convert(Rep count) noexcept {
        static_assert(std::is_arithmetic_v<Rep>, "a duration in numbers");
        using ratio = std::ratio_divide<Period, std::nano>;
        constexpr std::uint64_t longest = DULY_FOREVER - 1;
        if constexpr (std::is_floating_point_v<Rep>) {
            if (count != count) return span(0, kind::no_number);
            if (count < 0) return span(0, kind::negative);
            const long double exact = static_cast<long double>(count) * ratio::num / ratio::den;
            if (!(exact < 18446744073709551614.0L)) return span(longest, kind::sound);
            const auto whole = static_cast<std::uint64_t>(exact);
            return span(static_cast<long double>(whole) < exact ? whole + 1 : whole, kind::sound);
        } else {
            if constexpr (std::is_signed_v<Rep>) {
                if (count < 0) return span(0, kind::negative);
            }
            const auto whole = static_cast<std::uint64_t>(count);
            constexpr auto num = static_cast<std::uint64_t>(ratio::num);
            constexpr auto den = static_cast<std::uint64_t>(ratio::den);
            if (whole / den >= longest / num) return span(longest, kind::sound);
            const std::uint64_t rest = whole % den * num;
            return span(whole / den * num + rest / den + (rest % den != 0), kind::sound);
        }
    }

    std::uint64_t ns_;
    kind kind_;
};

// A wait without end; a time-out of a task that overrides default_timeout with none.
inline constexpr span forever = span::unlimited();

namespace detail {

// A span as an option, where 0 means the default: none at all is the shortest. Notes what is no span.
inline std::uint64_t option(span value, const char *what, const char *&wrong) noexcept {
    if (!value.is_sound()) wrong = what;
    return value.nanoseconds() == 0 ? 1 : value.nanoseconds();
}

// A count as an option: beyond its width it stays beyond every limit.
inline std::uint32_t option(std::size_t value) noexcept {
    constexpr std::size_t most = UINT32_MAX - 1;
    return static_cast<std::uint32_t>(value < most ? value : most);
}

// Nanoseconds that are left, from duly.h; none for DULY_FOREVER.
inline std::optional<std::chrono::nanoseconds> left(std::uint64_t value) noexcept {
    if (value == DULY_FOREVER) return std::nullopt;
    constexpr auto most = static_cast<std::uint64_t>(std::chrono::nanoseconds::max().count());
    return std::chrono::nanoseconds(static_cast<std::int64_t>(value < most ? value : most));
}

} // namespace detail

} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
