# find_package(duly @VERSION@ REQUIRED) gives two targets: duly::duly, the shared library, and duly::static, the static one.
# Keeps true: everything is found from where this file stands, so the installed tree may be moved as a whole.
get_filename_component(_duly_lib "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
set(_duly_include "${_duly_lib}/../include")
get_filename_component(_duly_include "${_duly_include}" ABSOLUTE)

foreach(_duly_file IN ITEMS "${_duly_lib}/libduly.so.@VERSION@" "${_duly_lib}/libduly.a" "${_duly_include}/duly.h")
  if(NOT EXISTS "${_duly_file}")
    set(duly_FOUND FALSE)
    set(duly_NOT_FOUND_MESSAGE "${_duly_file} is not there: install duly again, all of it")
    return()
  endif()
endforeach()

if(NOT TARGET duly::duly)
  add_library(duly::duly SHARED IMPORTED)
  set_target_properties(duly::duly PROPERTIES
    IMPORTED_LOCATION "${_duly_lib}/libduly.so.@VERSION@"
    IMPORTED_SONAME "libduly.so.@ABI@"
    INTERFACE_INCLUDE_DIRECTORIES "${_duly_include}")
  add_library(duly::static STATIC IMPORTED)
  set_target_properties(duly::static PROPERTIES
    IMPORTED_LOCATION "${_duly_lib}/libduly.a"
    IMPORTED_LINK_INTERFACE_LANGUAGES C
    INTERFACE_INCLUDE_DIRECTORIES "${_duly_include}"
    INTERFACE_LINK_LIBRARIES "@NATIVE@")
endif()
unset(_duly_file)
unset(_duly_include)
unset(_duly_lib)
