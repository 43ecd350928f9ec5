// SPDX-License-Identifier: BSD-3-Clause
// ScriptMethods: the methods of a script as functions. They block.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "block/layer.h"
#include "block/request.h"
#include "script/answers.h"
#include "script/runner.h"

namespace nbdkit {

// For one connection, or for none. Errors have a text.
class ScriptMethods {
 public:
  // All that is passed outlives it.
  explicit ScriptMethods(const ScriptRunner& runner, ConnectionControl* control = nullptr)
      : runner_(runner), control_(control) {}

  // A method that need not be there, and whether it is.
  Result<bool> optional(std::string_view method, std::vector<std::string> arguments) const;
  // What it prints; nothing when it is missing.
  Result<std::optional<std::string>> text(std::string_view method,
                                          std::vector<std::string> arguments) const;

  Result<std::optional<ThreadModel>> thread_model() const;
  Result<std::vector<ExportEntry>> list_exports(bool read_only, bool tls) const;
  Result<std::string> default_export(bool read_only, bool tls) const;

  Result<std::string> open(bool read_only, const std::string& name, bool tls) const;
  Result<void> close(const std::string& handle) const;
  Result<std::uint64_t> get_size(const std::string& handle) const;
  Result<BlockSize> block_size(const std::string& handle) const;
  Result<bool> boolean(std::string_view method, const std::string& handle, bool without) const;
  Result<ScriptMode> mode(std::string_view method, const std::string& handle,
                          ScriptMode without) const;
  Result<std::string> export_description(const std::string& handle) const;

  Result<void> pread(const std::string& handle, std::uint64_t offset,
                     std::span<std::byte> bytes) const;
  Result<void> pwrite(const std::string& handle, std::uint64_t offset,
                      std::span<const std::byte> bytes, bool fua) const;
  Result<void> flush(const std::string& handle) const;
  Result<void> trim(const std::string& handle, Request request, bool fua) const;
  // not_supported when the script does not zero, or not this range.
  Result<void> zero(const std::string& handle, Request request, bool fua) const;
  Result<void> cache(const std::string& handle, Request request) const;
  Result<void> extents(const std::string& handle, Request request, Extents& extents) const;

 private:
  Result<ScriptOutcome> call(std::string_view method, std::vector<std::string> arguments) const;
  // `no` has no meaning for the method.
  Result<ScriptOutcome> call_plain(std::string_view method,
                                   std::vector<std::string> arguments) const;
  Result<void> data(ScriptCall call) const;
  static Error unexpected(std::string_view method);

  const ScriptRunner& runner_;
  ConnectionControl* const control_;
};

}  // namespace nbdkit
