// SPDX-License-Identifier: BSD-3-Clause
// Opening: gets a handle from a script and asks once for everything the export can do.
#pragma once

#include <string>

#include "block/context.h"
#include "block/properties.h"
#include "script/methods.h"
#include "script/script.h"

namespace nbdkit {

struct ScriptHandle {
  ScriptHandle() = default;

  std::string handle;
  Properties properties;
  bool can_zero = false;  // zero() may be called; otherwise zeroes are written
  ScriptMode fua = ScriptMode::none;
  ScriptMode cache = ScriptMode::none;
};

// On a worker. A failure after the script's open closes the handle again. Errors have a text.
Result<ScriptHandle> open_script(const ScriptMethods& methods, const Script& script,
                                 const Context& context, ThreadModel model);

}  // namespace nbdkit
