// SPDX-License-Identifier: BSD-3-Clause
// CFunctions: the functions of one plugin in C, whichever version of the interface it was built
// for.
#pragma once

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "block/extents.h"
#include "plugin_host/call_context.h"

namespace nbdkit {

// Calls run on a worker. Errors carry no text: what there was to say the plugin has said.
class CFunctions {
 public:
  explicit CFunctions(const nbdkit_plugin& table) : table_(table) {}

  const nbdkit_plugin& table() const { return table_; }
  bool errno_is_preserved() const { return table_.errno_is_preserved != 0; }

  bool has_pwrite() const { return table_.pwrite != nullptr || table_._pwrite_v1 != nullptr; }
  bool has_flush() const { return table_.flush != nullptr || table_._flush_v1 != nullptr; }
  bool has_trim() const { return table_.trim != nullptr || table_._trim_v1 != nullptr; }
  bool has_zero() const { return table_.zero != nullptr || table_._zero_v1 != nullptr; }
  // Version 1 has no flags.
  bool has_zero_flags() const { return table_.zero != nullptr; }

  Result<void> pread(CallContext& context, void* handle, std::span<std::byte> bytes,
                     std::uint64_t offset) const;
  // Flags as in nbdkit-common.h. Version 1 is never asked for FUA or a fast zero.
  Result<void> pwrite(CallContext& context, void* handle, std::span<const std::byte> bytes,
                      std::uint64_t offset, std::uint32_t flags) const;
  Result<void> flush(CallContext& context, void* handle) const;
  Result<void> trim(CallContext& context, void* handle, std::uint32_t count, std::uint64_t offset,
                    std::uint32_t flags) const;
  Result<void> zero(CallContext& context, void* handle, std::uint32_t count, std::uint64_t offset,
                    std::uint32_t flags) const;
  // Success without a function: it is only advice.
  Result<void> cache(CallContext& context, void* handle, std::uint32_t count,
                     std::uint64_t offset) const;
  Result<void> extents(CallContext& context, void* handle, std::uint32_t count,
                       std::uint64_t offset, std::uint32_t flags, Extents& extents) const;

 private:
  const nbdkit_plugin& table_;
};

}  // namespace nbdkit
