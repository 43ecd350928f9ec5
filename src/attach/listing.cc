// SPDX-License-Identifier: BSD-3-Clause
#include "attach/listing.h"

#include <fmt/format.h>

#include <algorithm>

#include "attach/control_client.h"
#include "attach/keeper_identity.h"
#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

Result<Json> ask_keeper(const RunFolder& folder, std::uint32_t index) {
  Result<ControlClient> keeper = ControlClient::connect(folder.socket_path(index));
  if (!keeper.ok()) return std::move(keeper).error();
  return keeper.value().call("status", Json(), ControlClient::kAnswerMax);
}

// What a keeper that is gone has left behind, if that is about this very attachment.
std::optional<Json> left_behind(const RunFolder& folder, const NbdDevice& device) {
  Result<std::string> text = folder.read_state(device.index);
  if (!text.ok()) return {};
  Result<Json> json = Json::parse(text.value());
  if (!json.ok()) return {};
  const Json* boot = json.value().find("boot_id");
  const Json* backend = json.value().find("backend");
  bool ours = boot != nullptr && *boot == Json(boot_id()) && backend != nullptr &&
              !device.backend.empty() && *backend == Json(device.backend);
  if (!ours) return {};
  return std::move(json).value();
}

AttachmentStatus status_of(const RunFolder* folder, const NbdDevice& device) {
  AttachmentStatus unmanaged;
  unmanaged.device = device;
  unmanaged.reason = fmt::format("attached by another program (process {})", *device.pid);
  if (folder == nullptr) return unmanaged;
  Result<Json> answer = ask_keeper(*folder, device.index);
  if (answer.ok()) {
    Result<AttachmentStatus> status = parse_attachment(answer.value(), device);
    if (status.ok()) return std::move(status).value();
    unmanaged.reason = status.error().message();
    return unmanaged;
  }
  const bool silent = answer.error().code == std::errc::timed_out;
  if (silent) unmanaged.reason = answer.error().message();
  std::optional<Json> left = left_behind(*folder, device);
  if (!left) return unmanaged;
  Result<AttachmentStatus> status = parse_attachment(*left, device);
  if (!status.ok()) return unmanaged;
  // Numbers of processes in a file are history: nothing is ever done to them.
  status.value().pid.reset();
  status.value().server_pid.reset();
  status.value().state = DeviceState::unmanaged;
  status.value().reason = silent ? unmanaged.reason
                                 : fmt::format(
                                       "its keeper is gone; nbdkit-attach --reattach {} "
                                       "keeps it again",
                                       device.node());
  return std::move(status).value();
}

}  // namespace

Result<AttachmentStatus> find_attachment(const Sysfs& sysfs, std::uint32_t index,
                                         const std::string& run_folder) {
  Result<NbdDevice> device = sysfs.device(index);
  if (!device.ok()) return std::move(device).error();
  if (!device.value().attached()) {
    return attach_error(ExitCode::not_attached,
                        fmt::format("{}: nothing is attached to it", device.value().node()));
  }
  Result<RunFolder> folder = RunFolder::open_existing(run_folder);
  return status_of(folder.ok() ? &folder.value() : nullptr, device.value());
}

std::vector<AttachmentStatus> list_attachments(const Sysfs& sysfs, const std::string& run_folder) {
  Result<RunFolder> folder = RunFolder::open_existing(run_folder);
  std::vector<AttachmentStatus> list;
  for (const NbdDevice& device : sysfs.devices(true)) {
    list.push_back(status_of(folder.ok() ? &folder.value() : nullptr, device));
  }
  return list;
}

}  // namespace nbdkit
