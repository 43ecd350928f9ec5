# SPDX-License-Identifier: BSD-3-Clause
# libnbdkit-handoff, shared and static: C99, for programs of others. Needs nothing but libc.

file(GLOB handoff_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/lib/handoff/*.c)
set(handoff_map ${CMAKE_SOURCE_DIR}/lib/handoff/nbdkit_handoff.map)
foreach(kind SHARED STATIC)
  string(TOLOWER nbdkit-handoff-${kind} target)
  add_library(${target} ${kind} ${handoff_sources})
  target_include_directories(${target}
    PUBLIC ${CMAKE_SOURCE_DIR}/include PRIVATE ${CMAKE_SOURCE_DIR}/lib/handoff)
  target_compile_options(${target} PRIVATE -Wpedantic)
  target_link_libraries(${target} PUBLIC Threads::Threads)
  set_target_properties(${target} PROPERTIES
    OUTPUT_NAME nbdkit-handoff
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib
    ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
endforeach()

# nodelete: a thread may be closing a descriptor when somebody calls dlclose() (packet.c).
target_link_options(nbdkit-handoff-shared PRIVATE
  -Wl,--version-script=${handoff_map} -Wl,-z,nodelete -Wl,-z,defs)
if(NBDKIT_SANITIZE)
  target_link_options(nbdkit-handoff-shared PRIVATE -Wl,-z,nodefs)
endif()
set_target_properties(nbdkit-handoff-shared PROPERTIES
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINK_DEPENDS ${handoff_map})
install(TARGETS nbdkit-handoff-shared nbdkit-handoff-static
  LIBRARY DESTINATION lib ARCHIVE DESTINATION lib)

configure_file(${CMAKE_SOURCE_DIR}/dist/nbdkit-handoff.pc.in
  ${CMAKE_BINARY_DIR}/lib/pkgconfig/nbdkit-handoff.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/lib/pkgconfig/nbdkit-handoff.pc DESTINATION lib/pkgconfig)
