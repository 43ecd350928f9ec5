# SPDX-License-Identifier: BSD-3-Clause
# What is installed besides programs, modules and pages. Everything but the units is relocatable.

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

install(FILES ${CMAKE_SOURCE_DIR}/dist/udev/59-nbdkit.rules DESTINATION lib/udev/rules.d)

# systemd wants absolute paths, so these are the one thing that knows where it is installed.
file(GLOB units RELATIVE ${CMAKE_SOURCE_DIR}/dist/systemd CONFIGURE_DEPENDS
     ${CMAKE_SOURCE_DIR}/dist/systemd/*.in)
foreach(unit IN LISTS units)
  string(REGEX REPLACE "\\.in$" "" name ${unit})
  install(CODE "
    set(bindir \"\${CMAKE_INSTALL_PREFIX}/bin\")
    configure_file(\"${CMAKE_SOURCE_DIR}/dist/systemd/${unit}\"
      \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/lib/systemd/system/${name}\" @ONLY)
    list(APPEND CMAKE_INSTALL_MANIFEST_FILES
      \"\${CMAKE_INSTALL_PREFIX}/lib/systemd/system/${name}\")")
endforeach()
