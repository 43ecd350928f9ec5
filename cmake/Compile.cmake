# SPDX-License-Identifier: BSD-3-Clause
# How everything is compiled, where it goes, and how it finds its libraries.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 99)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")

add_compile_options(-Wall -Wextra -Wpointer-arith -Wvla)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 at -O2 takes the empty side of an optional<variant> (Task, Result) for a bug, and the
  # short side of a string or the old side of a vector that grows for an overrun; and the Error of a
  # Result that holds none for an object that is on no heap.
  add_compile_options(-Wno-maybe-uninitialized -Wno-array-bounds -Wno-stringop-overflow
    -Wno-stringop-overread -Wno-restrict -Wno-free-nonheap-object)
endif()
add_compile_definitions(_GNU_SOURCE _FILE_OFFSET_BITS=64)
if(NBDKIT_WERROR)
  add_compile_options(-Werror)
endif()
if(NBDKIT_SANITIZE)
  add_compile_options(-fsanitize=${NBDKIT_SANITIZE} -fno-omit-frame-pointer)
  # The check of vptrs opens a pipe, and takes an object for a wrong one when no descriptor is left.
  add_compile_options(-fno-sanitize-recover=all -fno-sanitize=vptr)
  add_link_options(-fsanitize=${NBDKIT_SANITIZE})
endif()

# Half of the time that a file takes to compile goes into the same headers of others. Files still
# include what they use: the clang preset builds without this.
option(NBDKIT_PCH "Compile the headers that everybody includes only once" ON)
set(NBDKIT_COMMON_HEADERS <algorithm> <array> <cstdint> <cstring> <functional> <map> <memory>
    <optional> <span> <string> <string_view> <utility> <variant> <vector> <fmt/format.h>)
function(nbdkit_precompile target)
  if(NBDKIT_PCH)
    target_precompile_headers(${target} ${ARGN})
  endif()
endfunction()

# The build tree has the layout of the install tree, and both are relocatable.
set(NBDKIT_LIBDIR lib/nbdkit)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(NBDKIT_OUTPUT_LIBDIR ${CMAKE_BINARY_DIR}/${NBDKIT_LIBDIR})
set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
set(NBDKIT_PROGRAM_RPATH "$ORIGIN/../${NBDKIT_LIBDIR}")

# Native modules have no stable interface: program and modules must come from one build
# (src/block/native_module.h). Any change of a header makes another build of it.
file(GLOB NBDKIT_INTERFACE_HEADERS CONFIGURE_DEPENDS
     ${CMAKE_SOURCE_DIR}/src/base/*.h ${CMAKE_SOURCE_DIR}/src/async/*.h
     ${CMAKE_SOURCE_DIR}/src/block/*.h ${CMAKE_SOURCE_DIR}/src/script/*.h)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${NBDKIT_INTERFACE_HEADERS})
set(interface "${PROJECT_VERSION} ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")
string(APPEND interface " ${CMAKE_BUILD_TYPE} ${NBDKIT_SANITIZE}")
foreach(header IN LISTS NBDKIT_INTERFACE_HEADERS)
  file(SHA256 ${header} digest)
  string(APPEND interface ${digest})
endforeach()
string(SHA256 NBDKIT_BUILD_ID "${interface}")
# A header, not a definition: otherwise every change would compile everything anew.
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/build_id.h
     CONTENT "#define NBDKIT_BUILD_ID \"${NBDKIT_BUILD_ID}\"\n")
