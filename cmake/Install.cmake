# SPDX-License-Identifier: BSD-3-Clause
# What is installed besides programs, modules and pages. Everything is relocatable.

# The pkg-config file names the nbdkit whose plugin interface the headers offer.
file(STRINGS ${CMAKE_SOURCE_DIR}/include/nbdkit-version.h line REGEX "define NBDKIT_VERSION_STRING")
string(REGEX REPLACE ".*\"(.*)\".*" "\\1" NBDKIT_COMPATIBLE_VERSION "${line}")
configure_file(${CMAKE_SOURCE_DIR}/dist/nbdkit.pc.in
  ${CMAKE_BINARY_DIR}/lib/pkgconfig/nbdkit.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/lib/pkgconfig/nbdkit.pc DESTINATION lib/pkgconfig)

file(GLOB public_headers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/include/*.h)
install(FILES ${public_headers} DESTINATION include)

file(GLOB completions CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/dist/completions/*)
install(FILES ${completions} DESTINATION share/bash-completion/completions)
