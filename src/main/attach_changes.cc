// SPDX-License-Identifier: BSD-3-Clause
#include "main/attach_changes.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <utility>

#include "attach/attachment_status.h"
#include "attach/upgrade_call.h"
#include "main/attach_keeper.h"
#include "netlink/sysfs.h"

namespace nbdkit {
namespace {

// A plugin may take its time to load, and to open what it serves.
constexpr Seconds kUpgradeMax{300};
constexpr Seconds kResizeMax{60};
constexpr Seconds kReviveMax{300};

double milliseconds(Nanoseconds time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

}  // namespace

Result<void> upgrade_by_command(std::uint32_t index, const UpgradeOptions& options) {
  Result<ControlClient> keeper = connect_keeper(index);
  if (!keeper.ok()) return std::move(keeper).error();
  Result<Json> answer = keeper.value().call("upgrade", to_json(options), kUpgradeMax);
  if (!answer.ok()) return std::move(answer).error();
  Result<UpgradeReport> report = parse_upgrade_report(answer.value());
  if (!report.ok()) return std::move(report).error();
  fmt::print("/dev/nbd{}: requests waited {:.1f} ms (hand-over {:.1f} ms + activate {:.1f} ms)\n",
             index, milliseconds(report.value().hand_over + report.value().activate),
             milliseconds(report.value().hand_over), milliseconds(report.value().activate));
  return {};
}

Result<bool> revive_by_command(std::uint32_t index, bool force) {
  Result<ControlClient> keeper = connect_keeper(index);
  if (!keeper.ok()) return false;
  Result<Json> status = keeper.value().call("status", {}, ControlClient::kAnswerMax);
  if (!status.ok()) return std::move(status).error();
  const Json* state = status.value().find("state");
  if (state == nullptr || *state != Json(state_name(DeviceState::failed))) return false;
  Json params = Json::object().set("force", force);
  Result<Json> answer = keeper.value().call("reattach", std::move(params), kReviveMax);
  if (!answer.ok()) return std::move(answer).error();
  return true;
}

Result<void> resize_by_command(std::uint32_t index, bool may_shrink) {
  Result<ControlClient> keeper = connect_keeper(index);
  if (!keeper.ok()) return std::move(keeper).error();
  std::uint64_t was = Sysfs().device(index).ok() ? Sysfs().device(index).value().size : 0;
  Json params = Json::object().set("force", may_shrink);
  Result<Json> answer = keeper.value().call("resize", std::move(params), kResizeMax);
  if (!answer.ok()) return std::move(answer).error();
  const Json* size = answer.value().find("size");
  std::uint64_t bytes = size != nullptr ? size->as_unsigned().value_or(0) : 0;
  fmt::print("/dev/nbd{}: {} bytes, {}\n", index, bytes,
             bytes == was ? "as before" : fmt::format("instead of {}", was));
  return {};
}

}  // namespace nbdkit
