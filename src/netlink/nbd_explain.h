// SPDX-License-Identifier: BSD-3-Clause
// Why the driver refuses, in sentences: it says a bare errno, and more only in the kernel's log.
#pragma once

#include <cstdint>
#include <string>

#include "netlink/nbd_messages.h"
#include "netlink/sysfs.h"

namespace nbdkit {

// What the kernel's acknowledgement said: a positive errno and, sometimes, words.
struct Refusal {
  int error = 0;
  std::string words;
};

// What can be seen to be wrong before the driver is asked. The codes are those of exit_code.h.
Result<void> check_connect(const ConnectRequest& request);
Result<void> check_socket(int fd);

// These look at the device and its openers and may take a moment.
Error explain_connect(const Refusal& refusal, const ConnectRequest& request, const Sysfs& sysfs);
Error explain_disconnect(const Refusal& refusal, std::uint32_t index, const Sysfs& sysfs);
Error explain_reconfigure(const Refusal& refusal, const ReconfigureRequest& request,
                          const Sysfs& sysfs);
Error explain_no_driver(const Sysfs& sysfs);

}  // namespace nbdkit
