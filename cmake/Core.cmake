# SPDX-License-Identifier: BSD-3-Clause
# Everything in src/ but the mains is one private shared library, which the programs and the native
# modules link to: state per thread (async/frame_pool.cc) exists once in a process.

file(GLOB core_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/*/*.cc)
list(FILTER core_sources EXCLUDE REGEX "_test\\.cc$|/src/main/|/src/plugin_host/api/")

add_library(nbdkit-core SHARED ${core_sources})
nbdkit_precompile(nbdkit-core PRIVATE ${NBDKIT_COMMON_HEADERS})
# The only file that knows lib/handoff/.
set_property(SOURCE ${CMAKE_SOURCE_DIR}/src/handoff/message.cc
  APPEND PROPERTY INCLUDE_DIRECTORIES ${CMAKE_SOURCE_DIR})
target_include_directories(nbdkit-core PUBLIC ${CMAKE_BINARY_DIR}/generated ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
target_compile_definitions(nbdkit-core
  PUBLIC NBDKIT_VERSION="${PROJECT_VERSION}")
target_link_libraries(nbdkit-core
  PUBLIC fmt::fmt Threads::Threads ${CMAKE_DL_LIBS}
  PRIVATE nlohmann_json::nlohmann_json PkgConfig::NL PkgConfig::GNUTLS)
# Templates of the standard library must not take the place of a plugin's own (RTLD_GLOBAL).
target_link_options(nbdkit-core PRIVATE
  -Wl,--version-script=${CMAKE_SOURCE_DIR}/src/core.map -Wl,-z,defs -Wl,-Bsymbolic-functions)
set_target_properties(nbdkit-core PROPERTIES
  LINK_DEPENDS ${CMAKE_SOURCE_DIR}/src/core.map
  LIBRARY_OUTPUT_DIRECTORY ${NBDKIT_OUTPUT_LIBDIR}
  INSTALL_RPATH "$ORIGIN")
if(NBDKIT_SANITIZE)
  # clang links the sanitizer's runtime into programs only.
  target_link_options(nbdkit-core PRIVATE -Wl,-z,nodefs)
endif()
install(TARGETS nbdkit-core LIBRARY DESTINATION ${NBDKIT_LIBDIR})
