// SPDX-License-Identifier: BSD-3-Clause
// Opening: opens a plugin's handle for a connection and asks once for everything it can do.
#pragma once

#include "block/properties.h"
#include "plugin_host/c_functions.h"
#include "plugin_host/c_module.h"
#include "plugin_host/call_context.h"

namespace nbdkit {

enum class FuaMode { none, emulate, native };
enum class CacheMode { none, emulate, native };

struct Opened {
  Opened() = default;

  void* handle = nullptr;
  Properties properties;
  bool can_zero = false;  // zero() may be called; otherwise zeroes are written
  FuaMode fua = FuaMode::none;
  CacheMode cache = CacheMode::none;
};

// On a worker. A failure after the plugin's open closes the handle again. Errors have a text.
Result<Opened> open_handle(CallContext& context, const CFunctions& functions, ThreadModel model,
                           bool read_only);

}  // namespace nbdkit
