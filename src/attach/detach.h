// SPDX-License-Identifier: BSD-3-Clause
// Detaching a device in the order that can neither hang nor lose what was written.
#pragma once

#include <cstdint>
#include <string>

#include "async/loop.h"
#include "attach/device_uses.h"
#include "attach/options.h"
#include "base/log.h"
#include "netlink/nbd_control.h"

namespace nbdkit {

struct DetachTools {
  Loop& loop;
  Gate& gate;
  Log& log;
  NbdControl& control;
  const Sysfs& sysfs;
  Helper& node;  // for calls that touch the device
  KernelFiles files;
};

// The keeper's side of a device. Devices of others have none.
class DetachPeer {
 public:
  // Whether requests are answered, so that what is cached can be written back.
  virtual bool served() const = 0;
  // Ends the connections from the server's side: that unblocks the driver.
  virtual void shut_down_connections() = 0;

 protected:
  ~DetachPeer() = default;
};

// Refuses (busy) while anything uses the device, unless forced. Whatever fails changes nothing; an
// Error is about a device that is still attached. Ends with who keeps the detached device from
// going away (describe_uses()), which is nobody as a rule.
// What is passed outlives the Task.
Task<std::string> detach_device(DetachTools& tools, DetachPeer* peer, std::uint32_t index,
                                DetachOptions options);

// Until the kernel has let go of a disconnected device; false when it has not after `limit`.
Task<bool> wait_until_gone(DetachTools& tools, std::uint32_t index, Milliseconds limit);

}  // namespace nbdkit
