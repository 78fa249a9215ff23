"""What is a native callback: the addresses of a C function and its data, from whoever knows them.

Keeps true:
1. What is returned as kept alive keeps both addresses valid.
2. What needs the interpreter, or is of another type than `int (void *)` as far as anybody can tell, is refused.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from duly import _errors

# What every function pointer of ctypes is.
_Pointer: Any = vars(ctypes)["_CFuncPtr"]
_NEEDS_THE_INTERPRETER = 4  # FUNCFLAG_PYTHONAPI of ctypes: a function of a PyDLL


def resolve(function: Any, data: Any = None, /, *more: Any) -> tuple[int, int, bool, Any]:
    """The address of a function, that of its data, whether what it returns is a status, and what keeps them alive."""
    if more:
        raise TypeError(f"a native callback takes one argument, its data; here are {1 + len(more)}")
    address, tells = _function(function)
    if not address:
        raise _errors.InvalidArgument(f"the native callback {function!r} is a null pointer")
    at, kept = _data(data)
    return address, at, tells, (function, data, kept)


def _function(function: Any) -> tuple[int, bool]:
    if isinstance(function, _Pointer):
        if function._flags_ & _NEEDS_THE_INTERPRETER:
            raise TypeError(f"{function!r} needs the interpreter: a native callback runs without it")
        if function.restype not in (ctypes.c_int, ctypes.c_int32, None):
            raise TypeError(f"{function!r} returns {function.restype!r}; a native callback returns a C int, or nothing")
        return ctypes.cast(function, ctypes.c_void_p).value or 0, function.restype is not None
    if _is_capsule(function):
        return _of_capsule(function), True
    if isinstance(function, int) and not isinstance(function, bool):
        return _address(function), True
    backend = _cffi(function)
    if backend is not None:
        kind = backend.typeof(function)
        if kind.kind != "function":
            raise TypeError(f"{function!r} is no pointer to a function")
        if kind.result.cname not in ("int", "int32_t", "void"):
            raise TypeError(f"{function!r} returns {kind.result.cname}; a native callback returns a C int, or nothing")
        return int(backend.cast("uintptr_t", function)), kind.result.cname != "void"
    address = getattr(function, "address", None)
    if isinstance(address, int):  # a cfunc of numba
        result = str(getattr(getattr(function, "_sig", None), "return_type", "int32"))
        if result not in ("int32", "none", "void"):
            raise TypeError(f"{function!r} returns {result}; a native callback returns an int32, or nothing")
        return address, result == "int32"
    raise TypeError(
        f"{type(function).__name__} is no native callback: give a function pointer of ctypes or cffi, a cfunc of "
        "numba, a PyCapsule, or an address. A Python function is for duly.Pool"
    )


def _data(data: Any) -> tuple[int, Any]:
    """The address, and what keeps it valid besides the data itself."""
    if data is None:
        return 0, None
    if isinstance(data, int) and not isinstance(data, bool):
        return _address(data), None
    if isinstance(data, ctypes.c_void_p):
        return data.value or 0, None
    if isinstance(data, ctypes._Pointer):
        return ctypes.cast(data, ctypes.c_void_p).value or 0, None
    if isinstance(data, (ctypes.Structure, ctypes.Union, ctypes.Array, ctypes._SimpleCData)):
        return ctypes.addressof(data), None
    if _is_capsule(data):
        return _of_capsule(data), None
    backend = _cffi(data)
    if backend is not None:
        return int(backend.cast("uintptr_t", data)), None
    buffer: Any = data
    try:
        # As long as this lives the buffer stays where it is.
        pinned = ctypes.c_char.from_buffer(buffer)
    except TypeError as error:
        raise TypeError(
            f"{type(data).__name__} is no data of a native callback: give a writable buffer, an object of ctypes or "
            f"cffi, a PyCapsule, an address or None ({error})"
        ) from None
    return ctypes.addressof(pinned), pinned


def _address(number: int) -> int:
    if not 0 <= number < 2 ** (8 * ctypes.sizeof(ctypes.c_void_p)):
        raise _errors.InvalidArgument(f"{number} is no address")
    return number


def _is_capsule(thing: Any) -> bool:
    return type(thing).__name__ == "PyCapsule"


def _of_capsule(capsule: Any) -> int:
    name_of, pointer_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.argtypes, name_of.restype = [ctypes.py_object], ctypes.c_char_p
    pointer_of.argtypes, pointer_of.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_void_p
    address: int | None = pointer_of(capsule, name_of(capsule))
    return address or 0


def _cffi(thing: Any) -> Any:
    """What cffi is asked by, if this is one of its objects."""
    backend = sys.modules.get("_cffi_backend")
    if backend is None or not isinstance(thing, backend._CDataBase if hasattr(backend, "_CDataBase") else ()):
        return None
    return backend.FFI()
