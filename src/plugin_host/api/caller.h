// SPDX-License-Identifier: BSD-3-Clause
// Who calls an nbdkit_* function, and how it tells the operator that it failed.
#pragma once

#define NBDKIT_API_VERSION 2
#include <fmt/format.h>
#include <nbdkit-plugin.h>

#include <string>
#include <string_view>
#include <utility>

#include "plugin_host/call_context.h"
#include "plugin_host/plugin_host.h"

namespace nbdkit {

// The connection of the calling thread; nullptr outside of one and in threads of the plugin's own.
Session* calling_session();

// Where the caller's strings are kept.
Interns* calling_interns();

// Any function of the plugin's or for it: as nbdkit_error.
void tell_error(std::string text);

// Tells an error and gives -1.
template <typename... Args>
int failed(fmt::format_string<Args...> format, Args&&... args) {
  tell_error(fmt::format(format, std::forward<Args>(args)...));
  return -1;
}

// A copy that C code frees with free().
char* duplicate(std::string_view text);

}  // namespace nbdkit
