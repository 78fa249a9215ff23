// What the compiler at hand can do, and the namespace that follows from it. Part of duly.hpp.
#ifndef DULY_BASE_HPP
#define DULY_BASE_HPP

#include "duly.h"

#if __cplusplus >= 202002L
#include <version>
#else
#include <cstddef>
#endif

// Files of one program may be compiled with and without exceptions: they must not share an inline function.
#if defined(__cpp_exceptions) || defined(__EXCEPTIONS)
#define DULY_HPP_EXCEPTIONS 1
#define DULY_HPP_NAMESPACE v0
#else
#define DULY_HPP_EXCEPTIONS 0
#define DULY_HPP_NAMESPACE v0_without_exceptions
#endif

#if defined(__cpp_lib_jthread)
#define DULY_HPP_STOP_TOKEN 1
#else
#define DULY_HPP_STOP_TOKEN 0
#endif

#if defined(__cpp_impl_coroutine) && defined(__cpp_lib_coroutine) && DULY_HPP_EXCEPTIONS
#define DULY_HPP_COROUTINES 1
#else
#define DULY_HPP_COROUTINES 0
#endif

#endif
