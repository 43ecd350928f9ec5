# SPDX-License-Identifier: BSD-3-Clause
set_target_properties(${target} PROPERTIES NBDKIT_TESTED_PARTS
  "${folder}/backlog.cc;${folder}/event.cc;${folder}/journal.cc")
