# SPDX-License-Identifier: BSD-3-Clause
# Man pages: man/NAME.SECTION.pod and the page in each module's folder.

find_program(POD2MAN pod2man REQUIRED)
file(GLOB pages CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/man/*.pod
     ${CMAKE_SOURCE_DIR}/plugins/*/*.pod ${CMAKE_SOURCE_DIR}/filters/*/*.pod)
set(built_pages)
foreach(page IN LISTS pages)
  cmake_path(GET page STEM LAST_ONLY stem)
  if(stem MATCHES "^(.*)\\.([0-9])$")
    set(name ${CMAKE_MATCH_1})
    set(section ${CMAKE_MATCH_2})
  else()
    set(name ${stem})
    set(section 1)
  endif()
  set(output ${CMAKE_BINARY_DIR}/share/man/man${section}/${name}.${section})
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/share/man/man${section}
    COMMAND ${POD2MAN} --utf8 --section=${section} --name=${name} --center=nbdkit-attach
            --release=${PROJECT_VERSION} --date=${PROJECT_VERSION} ${page} ${output}
    DEPENDS ${page} VERBATIM)
  list(APPEND built_pages ${output})
endforeach()
if(built_pages)
  add_custom_target(pages ALL DEPENDS ${built_pages})
  install(DIRECTORY ${CMAKE_BINARY_DIR}/share/man/ DESTINATION share/man)
endif()
