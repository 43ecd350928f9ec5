// SPDX-License-Identifier: BSD-3-Clause
#include "plugin_host/c_functions.h"

#include "plugin_host/c_lists.h"

namespace nbdkit {
namespace {

std::uint32_t count_of(std::span<const std::byte> bytes) {
  return static_cast<std::uint32_t>(bytes.size());
}

Result<void> check(int result, const CallContext& context) {
  if (result == -1) return context.failure();
  return {};
}

}  // namespace

Result<void> CFunctions::pread(CallContext& context, void* handle, std::span<std::byte> bytes,
                               std::uint64_t offset) const {
  int result = table_.pread != nullptr
                   ? context.call(table_.pread, handle, bytes.data(), count_of(bytes), offset, 0u)
                   : context.call(table_._pread_v1, handle, bytes.data(), count_of(bytes), offset);
  return check(result, context);
}

Result<void> CFunctions::pwrite(CallContext& context, void* handle,
                                std::span<const std::byte> bytes, std::uint64_t offset,
                                std::uint32_t flags) const {
  if (!has_pwrite()) return std::errc::read_only_file_system;
  int result =
      table_.pwrite != nullptr
          ? context.call(table_.pwrite, handle, bytes.data(), count_of(bytes), offset, flags)
          : context.call(table_._pwrite_v1, handle, bytes.data(), count_of(bytes), offset);
  return check(result, context);
}

Result<void> CFunctions::flush(CallContext& context, void* handle) const {
  if (!has_flush()) return std::errc::invalid_argument;
  int result = table_.flush != nullptr ? context.call(table_.flush, handle, 0u)
                                       : context.call(table_._flush_v1, handle);
  return check(result, context);
}

Result<void> CFunctions::trim(CallContext& context, void* handle, std::uint32_t count,
                              std::uint64_t offset, std::uint32_t flags) const {
  if (!has_trim()) return std::errc::invalid_argument;
  int result = table_.trim != nullptr ? context.call(table_.trim, handle, count, offset, flags)
                                      : context.call(table_._trim_v1, handle, count, offset);
  return check(result, context);
}

Result<void> CFunctions::zero(CallContext& context, void* handle, std::uint32_t count,
                              std::uint64_t offset, std::uint32_t flags) const {
  if (!has_zero()) return std::errc::not_supported;
  int may_trim = (flags & NBDKIT_FLAG_MAY_TRIM) != 0 ? 1 : 0;
  int result = table_.zero != nullptr
                   ? context.call(table_.zero, handle, count, offset, flags)
                   : context.call(table_._zero_v1, handle, count, offset, may_trim);
  return check(result, context);
}

Result<void> CFunctions::cache(CallContext& context, void* handle, std::uint32_t count,
                               std::uint64_t offset) const {
  if (table_.cache == nullptr) return {};
  return check(context.call(table_.cache, handle, count, offset, 0u), context);
}

Result<void> CFunctions::extents(CallContext& context, void* handle, std::uint32_t count,
                                 std::uint64_t offset, std::uint32_t flags,
                                 Extents& extents) const {
  nbdkit_extents list(extents);
  std::size_t before = extents.list().size();
  NBDKIT_TRY(check(context.call(table_.extents, handle, count, offset, flags, &list), context));
  if (extents.list().size() > before) return {};
  context.report("extents: the plugin succeeded without giving any extent");
  return std::errc::invalid_argument;
}

}  // namespace nbdkit
