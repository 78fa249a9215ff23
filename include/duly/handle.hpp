// RAII over the refcounted objects of duly.h. Part of duly.hpp.
// Keeps true: a handle has one reference or is empty; every reference is released once.
#ifndef DULY_HANDLE_HPP
#define DULY_HANDLE_HPP

#include <cstddef>
#include <utility>

#include "duly/base.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

namespace detail {

// One reference to an object of duly.h.
template <class T, T *(*Retain)(T *), void (*Release)(T *)> class handle {
public:
    constexpr handle() noexcept = default;
    constexpr handle(std::nullptr_t) noexcept {}
    handle(const handle &other) noexcept : object_(Retain(other.object_)) {}
    handle(handle &&other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    handle &operator=(handle other) noexcept {
        std::swap(object_, other.object_);
        return *this;
    }
    ~handle() { Release(object_); }

    explicit operator bool() const noexcept { return object_ != nullptr; }
    // The object of duly.h; it stays this handle's.
    T *native() const noexcept { return object_; }
    // The reference, for the caller to release.
    T *detach() noexcept { return std::exchange(object_, nullptr); }

protected:
    explicit handle(T *owned) noexcept : object_(owned) {}

private:
    T *object_ = nullptr;
};

} // namespace detail

} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
