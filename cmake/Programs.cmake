# SPDX-License-Identifier: BSD-3-Clause
# The programs: src/main/NAME_main.cc and what it needs of src/main/NAME_*.cc.

function(nbdkit_program name stem)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/main/${stem}_*.cc)
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  add_executable(${name} ${sources} ${ARGN})
  target_link_libraries(${name} PRIVATE nbdkit-core)
  nbdkit_precompile(${name} PRIVATE ${NBDKIT_COMMON_HEADERS})
  set_target_properties(${name} PROPERTIES INSTALL_RPATH ${NBDKIT_PROGRAM_RPATH})
  install(TARGETS ${name} RUNTIME DESTINATION bin)
endfunction()

# Plugins of another nbdkit are looked for here when this one has none of that name.
set(NBDKIT_FOREIGN_PLUGIN_DIR /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/nbdkit/plugins
    CACHE STRING "Folder with plugins of another nbdkit; empty: none")
set_property(SOURCE ${CMAKE_SOURCE_DIR}/src/main/nbdkit_modules.cc APPEND PROPERTY
  COMPILE_DEFINITIONS NBDKIT_FOREIGN_PLUGIN_DIR="${NBDKIT_FOREIGN_PLUGIN_DIR}")

# The functions that plugins in C call are the program's own dynamic symbols, and its only ones.
file(GLOB api_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/plugin_host/api/*.cc)
if(EXISTS ${CMAKE_SOURCE_DIR}/src/main/nbdkit_main.cc)
  nbdkit_program(nbdkit nbdkit ${api_sources})
  target_link_options(nbdkit PRIVATE "-Wl,--export-dynamic-symbol=nbdkit_*"
    -Wl,--version-script=${CMAKE_SOURCE_DIR}/src/main/nbdkit.map)
  # Objects of the core are used in place; copies of them would be dynamic symbols of the program.
  target_compile_options(nbdkit PRIVATE -fPIC)
  set_target_properties(nbdkit PROPERTIES LINK_DEPENDS ${CMAKE_SOURCE_DIR}/src/main/nbdkit.map)
endif()
if(EXISTS ${CMAKE_SOURCE_DIR}/src/main/attach_main.cc)
  nbdkit_program(nbdkit-attach attach)
  target_link_libraries(nbdkit-attach PRIVATE CLI11::CLI11)
endif()
