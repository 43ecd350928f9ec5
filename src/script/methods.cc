// SPDX-License-Identifier: BSD-3-Clause
#include "script/methods.h"

#include <fmt/format.h>

#include <utility>

#include "base/parse.h"

namespace nbdkit {
namespace {

std::string word(bool value) { return value ? "true" : "false"; }

std::vector<std::string> range(const std::string& handle, std::uint64_t length,
                               std::uint64_t offset) {
  return {handle, fmt::format("{}", length), fmt::format("{}", offset)};
}

std::vector<std::string> range(const std::string& handle, Request request) {
  return range(handle, request.length, request.offset);
}

Error required(std::string_view method) {
  return Error(std::errc::io_error, fmt::format("the {} method is required", method));
}

Error unreadable(std::string_view method, std::string_view why) {
  return Error(std::errc::io_error,
               fmt::format("could not parse output from {} method: {}", method, why));
}

}  // namespace

Error ScriptMethods::unexpected(std::string_view method) {
  return Error(std::errc::io_error,
               fmt::format("{} method returned unexpected code (3/false)", method));
}

Result<ScriptOutcome> ScriptMethods::call(std::string_view method,
                                          std::vector<std::string> arguments) const {
  ScriptCall call;
  call.method = method;
  call.arguments = std::move(arguments);
  call.control = control_;
  return runner_.call(call);
}

Result<ScriptOutcome> ScriptMethods::call_plain(std::string_view method,
                                                std::vector<std::string> arguments) const {
  Result<ScriptOutcome> outcome = call(method, std::move(arguments));
  if (outcome.ok() && outcome.value().answer == ScriptAnswer::no) return unexpected(method);
  return outcome;
}

Result<bool> ScriptMethods::optional(std::string_view method,
                                     std::vector<std::string> arguments) const {
  Result<ScriptOutcome> outcome = call_plain(method, std::move(arguments));
  if (!outcome.ok()) return std::move(outcome).error();
  return outcome.value().answer == ScriptAnswer::yes;
}

Result<std::optional<std::string>> ScriptMethods::text(std::string_view method,
                                                       std::vector<std::string> arguments) const {
  Result<ScriptOutcome> outcome = call_plain(method, std::move(arguments));
  if (!outcome.ok()) return std::move(outcome).error();
  if (outcome.value().answer == ScriptAnswer::missing) return std::optional<std::string>();
  return std::optional<std::string>(std::move(outcome.value().text));
}

Result<std::optional<ThreadModel>> ScriptMethods::thread_model() const {
  Result<std::optional<std::string>> printed = text("thread_model", {});
  if (!printed.ok()) return std::move(printed).error();
  return parse_thread_model(without_newline(printed.value().value_or("")));
}

Result<std::vector<ExportEntry>> ScriptMethods::list_exports(bool read_only, bool tls) const {
  Result<std::optional<std::string>> printed = text("list_exports", {word(read_only), word(tls)});
  if (!printed.ok()) return std::move(printed).error();
  if (printed.value()) return parse_exports(*printed.value());
  std::vector<ExportEntry> exports;
  Result<std::string> name = default_export(read_only, tls);
  if (name.ok()) exports.push_back({std::move(name).value(), ""});
  return exports;
}

Result<std::string> ScriptMethods::default_export(bool read_only, bool tls) const {
  Result<std::optional<std::string>> printed = text("default_export", {word(read_only), word(tls)});
  if (!printed.ok()) return std::move(printed).error();
  Result<std::vector<ExportEntry>> exports = parse_exports(printed.value().value_or(""));
  if (!exports.ok()) return std::move(exports).error();
  return exports.value().empty() ? std::string() : std::move(exports.value().front().name);
}

Result<std::string> ScriptMethods::open(bool read_only, const std::string& name, bool tls) const {
  Result<std::optional<std::string>> printed = text("open", {word(read_only), name, word(tls)});
  if (!printed.ok()) return std::move(printed).error();
  return std::string(without_newline(printed.value().value_or("")));
}

Result<void> ScriptMethods::close(const std::string& handle) const {
  Result<ScriptOutcome> outcome = call("close", {handle});
  if (!outcome.ok()) return std::move(outcome).error();
  return {};
}

Result<std::uint64_t> ScriptMethods::get_size(const std::string& handle) const {
  Result<std::optional<std::string>> printed = text("get_size", {handle});
  if (!printed.ok()) return std::move(printed).error();
  if (!printed.value()) return required("get_size");
  Result<std::int64_t> size = parse_size(without_newline(*printed.value()));
  if (!size.ok()) return unreadable("get_size", size.error().message());
  return static_cast<std::uint64_t>(size.value());
}

Result<BlockSize> ScriptMethods::block_size(const std::string& handle) const {
  Result<std::optional<std::string>> printed = text("block_size", {handle});
  if (!printed.ok()) return std::move(printed).error();
  if (!printed.value()) return BlockSize{};
  return parse_block_size(*printed.value());
}

Result<bool> ScriptMethods::boolean(std::string_view method, const std::string& handle,
                                    bool without) const {
  Result<ScriptOutcome> outcome = call(method, {handle});
  if (!outcome.ok()) return std::move(outcome).error();
  if (outcome.value().answer == ScriptAnswer::missing) return without;
  return outcome.value().answer == ScriptAnswer::yes;
}

Result<ScriptMode> ScriptMethods::mode(std::string_view method, const std::string& handle,
                                       ScriptMode without) const {
  Result<std::optional<std::string>> printed = text(method, {handle});
  if (!printed.ok()) return std::move(printed).error();
  if (!printed.value()) return without;
  std::optional<ScriptMode> mode = parse_script_mode(*printed.value());
  if (mode) return *mode;
  return unreadable(method, fmt::format("'{}' is none of none, emulate and native",
                                        without_newline(*printed.value())));
}

Result<std::string> ScriptMethods::export_description(const std::string& handle) const {
  Result<std::optional<std::string>> printed = text("export_description", {handle});
  if (!printed.ok()) return std::move(printed).error();
  return std::string(without_newline(printed.value().value_or("")));
}

// For the methods that an export cannot be without, once it has announced them.
Result<void> ScriptMethods::data(ScriptCall call) const {
  call.control = control_;
  Result<ScriptOutcome> outcome = runner_.call(call);
  if (!outcome.ok()) return std::move(outcome).error();
  if (outcome.value().answer == ScriptAnswer::no) return unexpected(call.method);
  if (outcome.value().answer == ScriptAnswer::missing) return required(call.method);
  return {};
}

Result<void> ScriptMethods::pread(const std::string& handle, std::uint64_t offset,
                                  std::span<std::byte> bytes) const {
  ScriptCall call;
  call.method = "pread";
  call.arguments = range(handle, bytes.size(), offset);
  call.output = bytes;
  return data(std::move(call));
}

Result<void> ScriptMethods::pwrite(const std::string& handle, std::uint64_t offset,
                                   std::span<const std::byte> bytes, bool fua) const {
  ScriptCall call;
  call.method = "pwrite";
  call.arguments = range(handle, bytes.size(), offset);
  call.arguments.push_back(fua ? "fua" : "");
  call.input = bytes;
  return data(std::move(call));
}

Result<void> ScriptMethods::flush(const std::string& handle) const {
  Result<bool> done = optional("flush", {handle});
  if (!done.ok()) return std::move(done).error();
  return {};
}

Result<void> ScriptMethods::trim(const std::string& handle, Request request, bool fua) const {
  std::vector<std::string> arguments = range(handle, request);
  arguments.push_back(fua ? "fua" : "");
  Result<bool> done = optional("trim", std::move(arguments));
  if (!done.ok()) return std::move(done).error();
  return {};
}

Result<void> ScriptMethods::zero(const std::string& handle, Request request, bool fua) const {
  std::vector<std::string> arguments = range(handle, request);
  std::string flags;
  auto add = [&flags](bool set, std::string_view flag) {
    if (!set) return;
    if (!flags.empty()) flags += ',';
    flags += flag;
  };
  add(fua, "fua");
  add(request.has(RequestFlags::may_trim), "may_trim");
  add(request.has(RequestFlags::fast_zero), "fast");
  arguments.push_back(std::move(flags));
  Result<bool> done = optional("zero", std::move(arguments));
  if (!done.ok()) return std::move(done).error();
  if (!done.value()) return std::errc::not_supported;
  return {};
}

Result<void> ScriptMethods::cache(const std::string& handle, Request request) const {
  Result<bool> done = optional("cache", range(handle, request));
  if (!done.ok()) return std::move(done).error();
  return {};
}

Result<void> ScriptMethods::extents(const std::string& handle, Request request,
                                    Extents& extents) const {
  std::vector<std::string> arguments = range(handle, request);
  arguments.push_back(request.has(RequestFlags::one) ? "req_one" : "");
  Result<std::optional<std::string>> printed = text("extents", std::move(arguments));
  if (!printed.ok()) return std::move(printed).error();
  if (!printed.value()) return required("extents");
  return parse_extents(*printed.value(), extents);
}

}  // namespace nbdkit
