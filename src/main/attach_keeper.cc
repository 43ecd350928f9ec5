// SPDX-License-Identifier: BSD-3-Clause
#include "main/attach_keeper.h"

#include <fmt/format.h>

#include <utility>

#include "attach/privilege.h"
#include "netlink/exit_code.h"
#include "netlink/sysfs.h"

namespace nbdkit {

Result<RunFolder> open_folder_of(std::uint32_t index) {
  Result<NbdDevice> device = Sysfs().device(index);
  if (!device.ok()) return std::move(device).error();
  if (!device.value().attached()) {
    return attach_error(ExitCode::not_attached,
                        fmt::format("{}: nothing is attached to it", device.value().node()));
  }
  NBDKIT_TRY(check_may_attach());
  return RunFolder::open();
}

Result<std::optional<ControlClient>> find_keeper(const RunFolder& folder, std::uint32_t index) {
  Result<ControlClient> keeper = ControlClient::connect(folder.socket_path(index));
  if (keeper.ok()) {
    // What a command asks for may take long; to say that somebody is there does not.
    Result<Json> there = keeper.value().call("status", {}, ControlClient::kAnswerMax);
    if (!there.ok()) return std::move(there).error();
    return std::optional<ControlClient>(std::move(keeper).value());
  }
  bool absent = keeper.error().code == std::errc::no_such_file_or_directory ||
                keeper.error().code == std::errc::connection_refused;
  if (!absent) return std::move(keeper).error();
  return std::optional<ControlClient>();
}

Result<ControlClient> connect_keeper(std::uint32_t index) {
  Result<RunFolder> folder = open_folder_of(index);
  if (!folder.ok()) return std::move(folder).error();
  Result<std::optional<ControlClient>> keeper = find_keeper(folder.value(), index);
  if (!keeper.ok()) return std::move(keeper).error();
  if (keeper.value()) return std::move(*keeper.value());
  return attach_error(
      ExitCode::not_attached,
      fmt::format("/dev/nbd{0}: nothing keeps it; if nbdkit-attach has attached it, "
                  "--reattach /dev/nbd{0} comes first",
                  index));
}

}  // namespace nbdkit
