// SPDX-License-Identifier: BSD-3-Clause
#include "main/attach_keeper.h"

#include <fmt/format.h>

#include <utility>

#include "attach/privilege.h"
#include "attach/run_folder.h"
#include "netlink/exit_code.h"
#include "netlink/sysfs.h"

namespace nbdkit {

Result<ControlClient> connect_keeper(std::uint32_t index) {
  Result<NbdDevice> device = Sysfs().device(index);
  if (!device.ok()) return std::move(device).error();
  if (!device.value().attached()) {
    return attach_error(ExitCode::not_attached,
                        fmt::format("{}: nothing is attached to it", device.value().node()));
  }
  NBDKIT_TRY(check_may_attach());
  Result<RunFolder> folder = RunFolder::open();
  if (!folder.ok()) return std::move(folder).error();
  Result<ControlClient> keeper = ControlClient::connect(folder.value().socket_path(index));
  bool absent = !keeper.ok() && (keeper.error().code == std::errc::no_such_file_or_directory ||
                                 keeper.error().code == std::errc::connection_refused);
  if (!absent) return keeper;
  return attach_error(ExitCode::not_attached,
                      fmt::format("{0}: nothing keeps it; if nbdkit-attach has attached it, "
                                  "--reattach {0} comes first",
                                  device.value().node()));
}

}  // namespace nbdkit
