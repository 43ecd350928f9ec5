// SPDX-License-Identifier: BSD-3-Clause
// Native modules: plugins and filters of this project, each a shared object with one descriptor.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "block/layer.h"
#include "build_id.h"

namespace nbdkit {

// The C++ interface has no stable ABI, and a filter built against an older one would let an
// operation pass that it does not know. So a module is loaded only by the very build it belongs to.
inline constexpr std::uint64_t kModuleMagic = 0x6e62646b69742d6d;  // "nbdkit-m"
inline constexpr std::uint32_t kModuleVersion = 1;

enum class ModuleKind : std::uint32_t { plugin = 1, filter = 2 };

struct NativeModule {
  std::uint64_t magic;
  std::uint32_t version;
  ModuleKind kind;
  const char* build_id;
  const char* name;
  Layer* (*create)();  // owned by the caller
};

#define NBDKIT_NATIVE_MODULE(NAME, LAYER, KIND)                                                \
  extern "C" [[gnu::visibility("default")]] const ::nbdkit::NativeModule nbdkit_native_module; \
  const ::nbdkit::NativeModule nbdkit_native_module = {                                        \
      ::nbdkit::kModuleMagic,                                                                  \
      ::nbdkit::kModuleVersion,                                                                \
      KIND,                                                                                    \
      NBDKIT_BUILD_ID,                                                                         \
      NAME,                                                                                    \
      []() -> ::nbdkit::Layer* { return new LAYER; }};

// To be written once, outside of any namespace.
#define NBDKIT_NATIVE_PLUGIN(NAME, LAYER) \
  NBDKIT_NATIVE_MODULE(NAME, LAYER, ::nbdkit::ModuleKind::plugin)
#define NBDKIT_NATIVE_FILTER(NAME, LAYER) \
  NBDKIT_NATIVE_MODULE(NAME, LAYER, ::nbdkit::ModuleKind::filter)

// A module stays loaded until the process ends: code may still run in its threads' destructors.
struct LoadedModule {
  const NativeModule* module;
  std::unique_ptr<Layer> layer;
};

// not_supported when the file cannot be opened or is no native module at all: it may be a plugin in
// C, which plugin_host/c_plugin.h loads or says what is wrong with it. Any other Error says in its
// detail why the file was refused.
Result<LoadedModule> load_native_module(const std::string& path);

}  // namespace nbdkit
