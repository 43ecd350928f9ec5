// SPDX-License-Identifier: BSD-3-Clause
#include "attach/upgrade_call.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "attach/saved_options.h"
#include "base/check.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kMicrosecondsMax = 1'000'000'000'000;

Error wrong(std::string_view key, std::string_view expected) {
  return Error(std::errc::argument_out_of_domain, fmt::format("\"{}\" must be {}", key, expected));
}

std::uint64_t microseconds(Nanoseconds time) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(time).count());
}

}  // namespace

Json to_json(const UpgradeOptions& options) {
  Json json = Json::object();
  if (!options.server.empty()) json.set("server", options.server);
  if (options.changes_data) json.set("changes_data", true);
  if (!options.start) return json;
  Result<Json> start = Json::parse(save_options(*options.start));
  NBDKIT_CHECK(start.ok());
  json.set("start", std::move(start).value());
  return json;
}

Result<UpgradeOptions> parse_upgrade_call(const Json& params) {
  UpgradeOptions options;
  const Json::Object* members = params.as_object();
  for (std::size_t i = 0; members != nullptr && i < members->size(); ++i) {
    const Json::Member& member = (*members)[i];
    if (member.name == "server") {
      const std::string* path = member.value.as_string();
      if (path == nullptr || !path->starts_with('/')) return wrong("server", "an absolute path");
      options.server = *path;
    } else if (member.name == "changes_data") {
      std::optional<bool> truth = member.value.as_bool();
      if (!truth) return wrong("changes_data", "true or false");
      options.changes_data = *truth;
    } else if (member.name == "start") {
      Result<SavedOptions> saved = parse_saved_options(member.value.dump());
      if (!saved.ok()) return wrong("start", "what nbdkit-attach has made of its arguments");
      options.start = std::move(saved).value().options;
    } else {
      return Error(std::errc::argument_out_of_domain,
                   "\"upgrade\" takes \"server\", \"start\" and \"changes_data\"");
    }
  }
  return options;
}

Json to_json(const UpgradeReport& report) {
  Json json = Json::object();
  json.set("hand_over_us", microseconds(report.hand_over))
      .set("activate_us", microseconds(report.activate));
  return json;
}

Result<UpgradeReport> parse_upgrade_report(const Json& json) {
  UpgradeReport report;
  for (auto [key, time] :
       {std::pair("hand_over_us", &report.hand_over), std::pair("activate_us", &report.activate)}) {
    const Json* value = json.find(key);
    std::optional<std::uint64_t> number = value != nullptr ? value->as_unsigned() : std::nullopt;
    if (!number || *number > kMicrosecondsMax) {
      return Error(std::errc::protocol_error, fmt::format("the keeper's answer has no {}", key));
    }
    *time = std::chrono::microseconds(*number);
  }
  return report;
}

}  // namespace nbdkit
