// Which library the program runs with. Part of duly.hpp.
#ifndef DULY_VERSION_HPP
#define DULY_VERSION_HPP

#include <cstdint>

#include "duly/base.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

// Of the library in use, such as "0.1.0"; that of this header is DULY_VERSION_NUMBER.
inline const char *version() noexcept { return duly_version_string(); }
// The same as one number: major * 1000000 + minor * 1000 + patch.
inline std::uint32_t version_number() noexcept { return duly_version_number(); }
// False: the library has another ABI than this header, and the program must not go on.
inline bool is_compatible() noexcept { return duly_abi_version() == DULY_ABI_VERSION; }

} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
