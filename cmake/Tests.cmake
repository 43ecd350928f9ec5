# SPDX-License-Identifier: BSD-3-Clause
# Unit tests: one program for each room of src/ and for each module.

find_package(GTest REQUIRED)

file(GLOB support_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/support/*.cc)
add_library(nbdkit-test-support STATIC ${support_sources})
target_include_directories(nbdkit-test-support PUBLIC ${CMAKE_SOURCE_DIR}/tests)
target_link_libraries(nbdkit-test-support PUBLIC nbdkit-core GTest::gtest PRIVATE PkgConfig::GNUTLS)
# As the tests are, which take over what it has precompiled.
set_target_properties(nbdkit-test-support PROPERTIES POSITION_INDEPENDENT_CODE OFF)
target_compile_options(nbdkit-test-support PRIVATE -fPIE)
nbdkit_precompile(nbdkit-test-support PRIVATE ${NBDKIT_COMMON_HEADERS} <gtest/gtest.h>)
target_compile_definitions(nbdkit-test-support PUBLIC
  NBDKIT_TEST_LIBDIR="${NBDKIT_OUTPUT_LIBDIR}" NBDKIT_TEST_BINDIR="${CMAKE_BINARY_DIR}/bin"
  NBDKIT_TEST_SOURCE_DIR="${CMAKE_SOURCE_DIR}")

function(nbdkit_unit_test name)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE nbdkit-test-support GTest::gtest_main)
  nbdkit_precompile(${name} REUSE_FROM nbdkit-test-support)
  set_target_properties(${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests
    INSTALL_RPATH "$ORIGIN/../${NBDKIT_LIBDIR}")
  add_test(NAME ${name} COMMAND ${name})
  if(NBDKIT_SANITIZE)
    set_tests_properties(${name} PROPERTIES TIMEOUT 600)  # Ten times slower, or more.
  else()
    set_tests_properties(${name} PROPERTIES TIMEOUT 120)
  endif()
endfunction()

# Plugins in C and C++ to be loaded by tests: tests/plugins/NAME.c and NAME.cc.
set(NBDKIT_TEST_PLUGINDIR ${CMAKE_BINARY_DIR}/tests/plugins)
add_custom_target(test-plugins)
function(nbdkit_test_plugin name source)
  add_library(test-${name} MODULE ${source})
  target_include_directories(test-${name} PRIVATE ${CMAKE_SOURCE_DIR}/include)
  target_compile_options(test-${name} PRIVATE -Wpedantic)
  target_compile_definitions(test-${name} PRIVATE ${ARGN})
  # Tests load copies of one plugin: each must see its own variables and not those of the first.
  target_link_options(test-${name} PRIVATE -Wl,-Bsymbolic)
  set_target_properties(test-${name} PROPERTIES
    PREFIX "" OUTPUT_NAME nbdkit-${name}-plugin CXX_VISIBILITY_PRESET hidden
    C_VISIBILITY_PRESET hidden LIBRARY_OUTPUT_DIRECTORY ${NBDKIT_TEST_PLUGINDIR})
  add_dependencies(test-plugins test-${name})
endfunction()
file(GLOB test_plugins CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/plugins/*.c
     ${CMAKE_SOURCE_DIR}/tests/plugins/*.cc)
foreach(source IN LISTS test_plugins)
  cmake_path(GET source STEM name)
  if(name STREQUAL probe)
    foreach(version 1 2)
      nbdkit_test_plugin(probe-v${version} ${source} NBDKIT_API_VERSION=${version})
    endforeach()
  else()
    nbdkit_test_plugin(${name} ${source})
  endif()
endforeach()

file(GLOB rooms ${CMAKE_SOURCE_DIR}/src/*)
foreach(room IN LISTS rooms)
  cmake_path(GET room FILENAME room_name)
  file(GLOB tests CONFIGURE_DEPENDS ${room}/*_test.cc)
  if(tests)
    nbdkit_unit_test(${room_name}_test ${tests})
    if(room_name STREQUAL handoff)
      target_include_directories(handoff_test PRIVATE ${CMAKE_SOURCE_DIR})  # lib/handoff/
    endif()
    if(room_name STREQUAL main)
      file(GLOB main_sources CONFIGURE_DEPENDS ${room}/*.cc)
      list(FILTER main_sources EXCLUDE REGEX "_(main|test)\\.cc$")
      target_sources(main_test PRIVATE ${main_sources})
      target_link_libraries(main_test PRIVATE CLI11::CLI11)
      add_dependencies(main_test nbdkit-null-plugin nbdkit-nofilter-filter)
    endif()
    if(room_name STREQUAL plugin_host)
      target_sources(plugin_host_test PRIVATE ${api_sources})
      target_link_options(plugin_host_test PRIVATE "-Wl,--export-dynamic-symbol=nbdkit_*")
      target_compile_definitions(plugin_host_test PRIVATE
        NBDKIT_TEST_PLUGINDIR="${NBDKIT_TEST_PLUGINDIR}")
      add_dependencies(plugin_host_test test-plugins)
    endif()
  endif()
endforeach()

# The static library's insides, and its functions as programs in C see them.
file(GLOB tests CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/lib/handoff/*_test.cc)
nbdkit_unit_test(handoff_library_test ${tests})
target_include_directories(handoff_library_test PRIVATE ${CMAKE_SOURCE_DIR}/lib/handoff)
target_link_libraries(handoff_library_test PRIVATE nbdkit-handoff-static)

get_property(modules GLOBAL PROPERTY NBDKIT_MODULES)
foreach(module IN LISTS modules)
  # The registered folder, without carrying a list inside a list.
  string(REGEX REPLACE "^nbdkit-(.*)-(plugin|filter)$" "\\2s/\\1" folder ${module})
  file(GLOB tests CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${folder}/*_test.cc)
  nbdkit_unit_test(${module}_test ${tests})
  add_dependencies(${module}_test ${module})
  # Parts of a module with tests of their own; its module.cmake names them.
  get_target_property(parts ${module} NBDKIT_TESTED_PARTS)
  if(parts)
    target_sources(${module}_test PRIVATE ${parts})
  endif()
endforeach()

# Programs that the scripts in tests/kernel and tests/e2e run.
file(GLOB probes CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/*/*_probe.cc)
foreach(probe IN LISTS probes)
  cmake_path(GET probe STEM name)
  add_executable(${name} ${probe})
  target_link_libraries(${name} PRIVATE nbdkit-test-support GTest::gtest_main)
  set_target_properties(${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests
    INSTALL_RPATH "$ORIGIN/../${NBDKIT_LIBDIR}")
endforeach()

# What scripts load in front of the C library.
file(GLOB preloads CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/*/*_preload.cc)
if(NBDKIT_SANITIZE)
  set(preloads)  # The sanitizers come first themselves.
endif()
foreach(preload IN LISTS preloads)
  cmake_path(GET preload STEM name)
  add_library(${name} MODULE ${preload})
  set_target_properties(${name} PROPERTIES
    PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
endforeach()

add_dependencies(block_test nbdkit-nofilter-filter)
add_subdirectory(examples/filter)
add_subdirectory(examples/handoff)
if(EXISTS ${CMAKE_SOURCE_DIR}/tests/CMakeLists.txt)
  add_subdirectory(tests)
endif()
