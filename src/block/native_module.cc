// SPDX-License-Identifier: BSD-3-Clause
#include "block/native_module.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <string_view>

namespace nbdkit {

Result<LoadedModule> load_native_module(const std::string& path) {
  // RTLD_LOCAL: two modules may well have classes of the same name.
  void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return Error(std::errc::not_supported, ::dlerror());
  auto* module = static_cast<const NativeModule*>(::dlsym(handle, "nbdkit_native_module"));
  if (module == nullptr) {
    // It stays open: whoever loads it as a plugin in C opens it again, and closing it in between
    // would run its constructors and destructors once more than it expects.
    return Error(std::errc::not_supported, fmt::format("{}: not a native module", path));
  }
  if (module->magic != kModuleMagic || module->version != kModuleVersion ||
      std::string_view(module->build_id) != NBDKIT_BUILD_ID) {
    ::dlclose(handle);
    return Error(std::errc::invalid_argument,
                 fmt::format("{}: this module belongs to another build of nbdkit; install the "
                             "program and its modules together",
                             path));
  }
  LoadedModule loaded{module, std::unique_ptr<Layer>(module->create())};
  return loaded;
}

}  // namespace nbdkit
