// SPDX-License-Identifier: BSD-3-Clause
#include "main/attach_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "attach/control_client.h"
#include "attach/listing.h"
#include "attach/privilege.h"
#include "attach/saved_options.h"
#include "main/attach_keeper.h"
#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

Error taken(const AttachOptions& wanted, const AttachmentStatus& there, std::string_view why) {
  return attach_error(ExitCode::busy, fmt::format("--name={}: {} has this name, {}", wanted.name,
                                                  there.device.node(), why));
}

// In words, what `wanted` would have otherwise; empty: nothing.
Result<std::string> ask_for_difference(std::uint32_t index, const AttachOptions& wanted) {
  Result<ControlClient> keeper = connect_keeper(index);
  if (!keeper.ok()) return std::move(keeper).error();
  Result<Json> start = Json::parse(save_options(wanted));
  if (!start.ok()) return std::move(start).error();
  Json params = Json::object().set("start", std::move(start).value());
  Result<Json> answer =
      keeper.value().call("compare", std::move(params), ControlClient::kAnswerMax);
  if (!answer.ok()) return std::move(answer).error();
  const Json* other = answer.value().find("other");
  if (other == nullptr) {
    return Error(std::errc::protocol_error, "the keeper's answer has no \"other\"");
  }
  return other->as_string() != nullptr ? *other->as_string() : std::string();
}

}  // namespace

Result<NameTurn> NameTurn::wait(const std::string& name) {
  if (name.empty()) return NameTurn();
  NBDKIT_TRY(check_may_attach());
  Result<RunFolder> folder = RunFolder::open();
  if (!folder.ok()) return std::move(folder).error();
  Result<UniqueFd> turn = folder.value().wait_for_turn(name);
  if (!turn.ok()) return std::move(turn).error();
  return NameTurn(name, std::move(folder).value(), std::move(turn).value());
}

void NameTurn::end() {
  if (folder_ && turn_) folder_->end_turn(name_, std::move(turn_));
}

Result<std::string> find_named(const AttachOptions& wanted) {
  if (wanted.name.empty()) return std::string();
  const std::vector<AttachmentStatus> list = list_attachments(Sysfs());
  auto there = std::find_if(list.begin(), list.end(), [&](const AttachmentStatus& status) {
    return status.name == wanted.name;
  });
  if (there == list.end()) return std::string();
  if (!there->managed()) return taken(wanted, *there, there->reason);
  const std::uint32_t index = there->device.index;
  if (wanted.index && *wanted.index != index) {
    return taken(wanted, *there, fmt::format("and not /dev/nbd{}", *wanted.index));
  }
  Result<std::string> other = ask_for_difference(index, wanted);
  if (!other.ok()) return std::move(other).error();
  if (!other.value().empty()) {
    return taken(wanted, *there, fmt::format("with other arguments ({})", other.value()));
  }
  const bool serves = there->state == DeviceState::connected ||
                      there->state == DeviceState::degraded || there->state == DeviceState::waiting;
  if (serves) return there->device.node();
  std::string why(state_name(there->state));
  if (!there->reason.empty()) why += ": " + there->reason;
  return taken(wanted, *there, "but is " + why);
}

}  // namespace nbdkit
