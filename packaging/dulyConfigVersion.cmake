# Which version this is, and for whom it will do: the same major number and, before 1.0, the same minor number.
set(PACKAGE_VERSION "@VERSION@")
string(REGEX MATCH "^([0-9]+)\\.([0-9]+)" _duly_number "${PACKAGE_VERSION}")
set(_duly_major "${CMAKE_MATCH_1}")
set(_duly_minor "${CMAKE_MATCH_2}")

set(PACKAGE_VERSION_COMPATIBLE FALSE)
set(PACKAGE_VERSION_EXACT FALSE)
if(PACKAGE_FIND_VERSION VERSION_LESS_EQUAL PACKAGE_VERSION
   AND "${PACKAGE_FIND_VERSION_MAJOR}" STREQUAL "${_duly_major}"
   AND (_duly_major GREATER 0 OR PACKAGE_FIND_VERSION_COUNT LESS 2
        OR "${PACKAGE_FIND_VERSION_MINOR}" STREQUAL "${_duly_minor}"))
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
  if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
  endif()
endif()
# No version was asked for.
if(NOT PACKAGE_FIND_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
# Built for 64 bit only.
if(CMAKE_SIZEOF_VOID_P AND NOT CMAKE_SIZEOF_VOID_P EQUAL 8)
  set(PACKAGE_VERSION "@VERSION@ (64 bit)")
  set(PACKAGE_VERSION_UNSUITABLE TRUE)
endif()
unset(_duly_number)
unset(_duly_major)
unset(_duly_minor)
