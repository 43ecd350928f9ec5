# SPDX-License-Identifier: BSD-3-Clause
# Plugins and filters: the folder is the registration. plugins/NAME/ and filters/NAME/ each hold the
# code, a unit test and the man page, and configuring stops when one of them is missing.

function(nbdkit_module kind folder)
  cmake_path(GET folder FILENAME name)
  file(GLOB sources CONFIGURE_DEPENDS ${folder}/*.cc)
  set(tests ${sources})
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  if(NOT sources OR NOT tests OR NOT EXISTS ${folder}/nbdkit-${name}-${kind}.pod)
    message(FATAL_ERROR "${folder}: needs code, a *_test.cc and nbdkit-${name}-${kind}.pod")
  endif()
  set(target nbdkit-${name}-${kind})
  add_library(${target} MODULE ${sources})
  target_link_libraries(${target} PRIVATE nbdkit-core)
  if(EXISTS ${folder}/module.cmake)
    include(${folder}/module.cmake)  # Libraries of its own: target_link_libraries(${target} ...).
  endif()
  set_target_properties(${target} PROPERTIES
    PREFIX "" CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    LIBRARY_OUTPUT_DIRECTORY ${NBDKIT_OUTPUT_LIBDIR}/${kind}s
    INSTALL_RPATH "$ORIGIN/..")
  install(TARGETS ${target} LIBRARY DESTINATION ${NBDKIT_LIBDIR}/${kind}s)
  set_property(GLOBAL APPEND PROPERTY NBDKIT_MODULES ${target})
endfunction()

foreach(kind plugin filter)
  file(GLOB folders CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${kind}s/*)
  foreach(folder IN LISTS folders)
    if(IS_DIRECTORY ${folder})
      nbdkit_module(${kind} ${folder})
    endif()
  endforeach()
endforeach()
