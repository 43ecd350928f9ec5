// SPDX-License-Identifier: BSD-3-Clause
#include "attach/privilege.h"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "netlink/exit_code.h"

namespace nbdkit {

Result<void> check_may_attach() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (::syscall(SYS_capget, &header, data) < 0) return os_error("capget");
  if ((data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN)) != 0) return {};
  return attach_error(
      ExitCode::not_permitted,
      "attaching needs CAP_SYS_ADMIN in the initial user namespace; run it as root");
}

}  // namespace nbdkit
