// SPDX-License-Identifier: BSD-3-Clause
#include "attach/attachment_status.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace nbdkit {
namespace {

constexpr std::array kStates{DeviceState::connected, DeviceState::degraded, DeviceState::waiting,
                             DeviceState::failed,    DeviceState::lost,     DeviceState::detaching,
                             DeviceState::unmanaged};

Json or_null(const std::optional<std::int64_t>& number) { return number ? Json(*number) : Json(); }

Json or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

Json texts(const std::vector<std::string>& list) {
  Json out = Json::array();
  for (const std::string& text : list) out.push(text);
  return out;
}

std::string text_of(const Json& json, std::string_view key) {
  const Json* value = json.find(key);
  return value != nullptr && value->as_string() != nullptr ? *value->as_string() : std::string();
}

std::vector<std::string> texts_of(const Json& json, std::string_view key) {
  const Json* value = json.find(key);
  std::vector<std::string> out;
  if (value == nullptr || value->as_array() == nullptr) return out;
  for (const Json& item : *value->as_array()) {
    if (item.as_string() != nullptr) out.push_back(*item.as_string());
  }
  return out;
}

std::optional<std::int64_t> number_of(const Json& json, std::string_view key) {
  const Json* value = json.find(key);
  return value != nullptr ? value->as_signed() : std::nullopt;
}

// 268435456 -> "256M"
std::string human_size(std::uint64_t bytes) {
  constexpr std::string_view kUnits = "BKMGTPE";
  std::size_t unit = 0;
  std::uint64_t whole = bytes;
  while (whole >= 1024 && whole % 1024 == 0 && unit + 1 < kUnits.size()) {
    whole /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} bytes", bytes) : fmt::format("{}{}", whole, kUnits[unit]);
}

std::string join(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ",") + word;
  return out.empty() ? "-" : out;
}

std::string number_or_dash(const std::optional<std::int64_t>& number) {
  return number ? std::to_string(*number) : "-";
}

}  // namespace

std::string_view state_name(DeviceState state) {
  switch (state) {
    case DeviceState::connected:
      return "connected";
    case DeviceState::degraded:
      return "degraded";
    case DeviceState::waiting:
      return "waiting";
    case DeviceState::failed:
      return "failed";
    case DeviceState::lost:
      return "lost";
    case DeviceState::detaching:
      return "detaching";
    case DeviceState::unmanaged:
      return "unmanaged";
  }
  return "unmanaged";
}

std::string_view survives_name(Survives survives) {
  switch (survives) {
    case Survives::nothing:
      return "nothing";
    case Survives::flushed:
      return "flushed";
    case Survives::durable:
      return "durable";
  }
  return "nothing";
}

Json to_json(const AttachmentStatus& status) {
  const NbdDevice& device = status.device;
  Json partitions = Json::array();
  for (const NbdPartition& partition : device.partitions) partitions.push("/dev/" + partition.name);
  Json in_flight = Json::array();
  in_flight.push(device.reads_in_flight).push(device.writes_in_flight);
  Json timeouts = Json::object();
  timeouts.set("request", status.managed() ? Json(status.request_timeout_s) : Json())
      .set("io_timeout_ms", device.io_timeout_ms)
      .set("dead", status.managed() ? Json(status.dead_timeout_s) : Json());
  Json json = Json::object();
  json.set("device", device.node())
      .set("index", device.index)
      .set("state", state_name(status.state))
      .set("reason", or_null(status.reason))
      .set("pid", or_null(status.pid))
      .set("server_pid", or_null(status.server_pid))
      .set("size", device.size)
      .set("block_size", device.block_size)
      .set("readonly", device.read_only)
      .set("connections", status.connections ? Json(*status.connections) : Json())
      .set("connections_dead", status.connections_dead)
      .set("plugin", or_null(status.plugin))
      .set("filters", texts(status.filters))
      .set("export", status.export_name)
      .set("name", or_null(status.name))
      .set("survives", or_null(status.survives))
      .set("identity", or_null(status.identity))
      .set("restarts", status.managed() ? Json(status.restarts) : Json())
      .set("upgrades", status.managed() ? Json(status.upgrades) : Json())
      .set("refused", texts(status.refused))
      .set("detaching_lazily", status.managed() ? Json(status.detaching_lazily) : Json())
      .set("guards", status.guards.empty() ? Json() : to_json(status.guards))
      .set("last_error", or_null(status.last_error))
      .set("backend", or_null(device.backend))
      .set("diskseq", device.diskseq)
      .set("partitions", std::move(partitions))
      .set("in_flight", std::move(in_flight))
      .set("performance", status.performance ? to_json(*status.performance) : Json())
      .set("timeouts", std::move(timeouts))
      .set("managed", status.managed());
  return json;
}

Result<AttachmentStatus> parse_attachment(const Json& json, NbdDevice device) {
  AttachmentStatus status;
  status.device = std::move(device);
  std::string name = text_of(json, "state");
  auto state = std::find_if(kStates.begin(), kStates.end(),
                            [&](DeviceState known) { return state_name(known) == name; });
  if (state == kStates.end()) {
    return Error(std::errc::protocol_error, "the keeper's status has no state");
  }
  status.state = *state;
  status.reason = text_of(json, "reason");
  status.pid = number_of(json, "pid");
  status.server_pid = number_of(json, "server_pid");
  auto connections = number_of(json, "connections");
  if (connections && *connections >= 0) status.connections = static_cast<unsigned>(*connections);
  status.connections_dead = static_cast<unsigned>(number_of(json, "connections_dead").value_or(0));
  status.plugin = text_of(json, "plugin");
  status.export_name = text_of(json, "export");
  status.name = text_of(json, "name");
  status.survives = text_of(json, "survives");
  status.identity = text_of(json, "identity");
  auto restarts = number_of(json, "restarts");
  if (restarts && *restarts >= 0) status.restarts = static_cast<std::uint64_t>(*restarts);
  auto upgrades = number_of(json, "upgrades");
  if (upgrades && *upgrades >= 0) status.upgrades = static_cast<std::uint64_t>(*upgrades);
  status.last_error = text_of(json, "last_error");
  status.filters = texts_of(json, "filters");
  status.refused = texts_of(json, "refused");
  const Json* lazily = json.find("detaching_lazily");
  status.detaching_lazily = lazily != nullptr && lazily->as_bool().value_or(false);
  if (const Json* guards = json.find("guards"); guards != nullptr && !guards->is_null()) {
    Result<std::vector<Guard>> parsed = parse_guards(*guards);
    if (!parsed.ok()) return std::move(parsed).error();
    status.guards = std::move(parsed).value();
  }
  if (const Json* known = json.find("performance"); known != nullptr && !known->is_null()) {
    Result<Performance> performance = parse_performance(*known);
    if (!performance.ok()) return std::move(performance).error();
    status.performance = std::move(performance).value();
  }
  if (const Json* timeouts = json.find("timeouts")) {
    status.request_timeout_s =
        static_cast<std::uint64_t>(number_of(*timeouts, "request").value_or(0));
    status.dead_timeout_s = static_cast<std::uint64_t>(number_of(*timeouts, "dead").value_or(0));
  }
  return status;
}

std::string describe(const AttachmentStatus& status) {
  const NbdDevice& device = status.device;
  std::string out = fmt::format("{}: {}", device.node(), state_name(status.state));
  if (!status.reason.empty()) out += ": " + status.reason;
  if (!status.name.empty()) out += fmt::format("\n  name         {}", status.name);
  out += fmt::format("\n  size         {}\n  block size   {}\n  access       {}\n",
                     human_size(device.size), device.block_size,
                     device.read_only ? "read-only" : "read-write");
  if (status.managed()) {
    out += fmt::format("  plugin       {}\n  filters      {}\n  survives     {}\n", status.plugin,
                       join(status.filters), status.survives);
    out += fmt::format("  connections  {}, {} dead\n", status.connections.value_or(0),
                       status.connections_dead);
    out += fmt::format("  keeper       {}\n  server       {}\n", number_or_dash(status.pid),
                       number_or_dash(status.server_pid));
    out += fmt::format("  restarts     {}\n  upgrades     {}\n", status.restarts, status.upgrades);
    for (const std::string& request : status.refused) {
      out += fmt::format("  refused      {}\n", request);
    }
    if (status.detaching_lazily) out += "  detaching    when nothing uses it any more\n";
    for (const Guard& guard : status.guards) {
      out += fmt::format("  guard        {}: {}{}{}\n", guard.name, guard.got,
                         guard.missing() ? "; missing: " : "", guard.why_not);
    }
    if (!status.last_error.empty()) out += fmt::format("  last error   {}\n", status.last_error);
  }
  std::vector<std::string> partitions;
  for (const NbdPartition& partition : device.partitions) partitions.push_back(partition.name);
  if (status.performance) out += describe(*status.performance);
  out += fmt::format("  partitions   {}\n  in flight    {} reads, {} writes\n", join(partitions),
                     device.reads_in_flight, device.writes_in_flight);
  return out;
}

std::string describe_list(const std::vector<AttachmentStatus>& list) {
  constexpr auto kRow = "{:<12} {:>12} {:<10} {:<12} {:<20} {:>7} {:>7}\n";
  std::string out =
      fmt::format(kRow, "DEVICE", "SIZE", "STATE", "PLUGIN", "FILTERS", "KEEPER", "SERVER");
  for (const AttachmentStatus& status : list) {
    out += fmt::format(kRow, status.device.node(), human_size(status.device.size),
                       state_name(status.state), status.plugin.empty() ? "-" : status.plugin,
                       join(status.filters), number_or_dash(status.pid),
                       number_or_dash(status.server_pid));
  }
  return out;
}

}  // namespace nbdkit
