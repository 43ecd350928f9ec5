// SPDX-License-Identifier: BSD-3-Clause
// example-cxx: the smallest plugin, in C++ and for version 1 of the interface.
#include <nbdkit-plugin.h>

#include <cstring>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

namespace {

nbdkit_plugin make_plugin() {
  nbdkit_plugin plugin{};
  plugin.name = "example-cxx";
  plugin.open = [](int) -> void* { return NBDKIT_HANDLE_NOT_NEEDED; };
  plugin.get_size = [](void*) -> int64_t { return 512; };
  plugin.pread = [](void*, void* buffer, uint32_t count, uint64_t) {
    std::memset(buffer, 'x', count);
    return 0;
  };
  return plugin;
}

nbdkit_plugin plugin = make_plugin();

}  // namespace

NBDKIT_REGISTER_PLUGIN(plugin)
