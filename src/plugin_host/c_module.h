// SPDX-License-Identifier: BSD-3-Clause
// CModule: the file of a plugin in C, opened and checked.
#pragma once

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <string>
#include <string_view>

#include "base/result.h"
#include "block/thread_model.h"

namespace nbdkit {

// Of the nbdkit whose plugin interface this is.
inline constexpr std::string_view kInterfaceVersion = NBDKIT_VERSION_STRING;
inline constexpr int kInterfaceMajor = NBDKIT_VERSION_MAJOR;
inline constexpr int kInterfaceMinor = NBDKIT_VERSION_MINOR;

class CModule {
 public:
  // Everybody's symbols see the plugin's (RTLD_GLOBAL), as script plugins need it. It stays loaded
  // until the process ends: destructors of worker threads may still run its code. An Error's detail
  // names the file and says why.
  static Result<CModule> open(const std::string& path);

  const std::string& path() const { return path_; }
  // What the plugin's own struct held when it was loaded; fields that it does not know are null.
  const nbdkit_plugin& table() const { return table_; }
  ThreadModel thread_model() const { return static_cast<ThreadModel>(table_._thread_model); }

  // -D NAME.FLAG=VALUE. False when the plugin has no such flag. Before load().
  bool set_debug_flag(std::string_view flag, int value) const;

 private:
  CModule(std::string path, void* library) : path_(std::move(path)), library_(library), table_() {}

  Result<void> check() const;

  std::string path_;
  void* library_;
  nbdkit_plugin table_;
};

// Sets the int NAME_debug_FLAG. `library` is a handle of dlopen or RTLD_DEFAULT; '.' and
// '-' count as '_'.
bool set_debug_variable(void* library, std::string_view name, std::string_view flag, int value);

}  // namespace nbdkit
