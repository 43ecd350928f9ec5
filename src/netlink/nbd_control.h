// SPDX-License-Identifier: BSD-3-Clause
// NbdControl: attaches and detaches the kernel's /dev/nbdN (generic netlink family "nbd").
//
//   NbdControl control(loop, log, sysfs);
//   co_await control.open(&modprobe);
//   std::uint32_t index = co_await control.connect(request);
//   ...
//   co_await control.close(kCallMax);
//
// Every Error is a sentence for the user (what, on which device, why, what to do), and its code
// decides the exit code (exit_code.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/gate.h"
#include "async/loop.h"
#include "base/log.h"
#include "netlink/conversation.h"
#include "netlink/helper.h"
#include "netlink/modprobe.h"
#include "netlink/nbd_messages.h"
#include "netlink/netlink_socket.h"
#include "netlink/sysfs.h"

namespace nbdkit {

// Sockets of these devices have died, one entry for each socket. Devices of others are told, too.
struct LinkEvents {
  std::vector<std::uint32_t> dead;
  bool missed = false;  // The kernel had to drop some: look at every device.
};

// One loop's; its thread only. The driver carries out a request while it is being sent and may
// block there for as long as it likes, with a lock that every user of generic netlink needs. So
// requests go out on a thread of their own, one after another; one that is late has timed_out here
// but may still happen. What unblocks the driver is shutdown() of the server's ends of the device's
// sockets.
//
// The netlink socket stays open until close(): kernels to come may end a device with the socket
// that attached it.
class NbdControl {
 public:
  static constexpr Seconds kCallMax{10};
  // How long a device is tried that is only held open: udev opens every new node for a moment.
  static constexpr Seconds kOpenedMax{3};

  // What is passed outlives this. The factory is called on a thread of its own.
  NbdControl(Loop& loop, Log& log, const Sysfs& sysfs,
             NetlinkSocketFactory factory = open_netlink_socket);
  NbdControl(const NbdControl&) = delete;
  NbdControl& operator=(const NbdControl&) = delete;
  ~NbdControl();  // close() has ended, unless open() was never called.

  // Finds the driver and joins its events. With `modprobe` a driver that is no module that is
  // loaded is loaded first. Errors: no_such_device when there is no driver.
  Task<void> open(const Modprobe* modprobe = nullptr, Nanoseconds limit = kCallMax);

  // Ends with the number of the device. The kernel has references of its own to the sockets then:
  // close them, or the end of the other side is never seen. When it was too late for the caller
  // the device is disconnected again.
  // An index is tried for kOpenedMax while its device is only held open, not attached.
  // `request` outlives the call.
  Task<std::uint32_t> connect(const ConnectRequest& request, Nanoseconds limit = kCallMax);

  // Never flushes and never refuses: whoever uses the device gets errors from now on. Success also
  // when nothing was attached. A device that is held open goes when it is closed: see Sysfs.
  Task<void> disconnect(std::uint32_t index, Nanoseconds limit = kCallMax);

  // Success does not say that the sockets were taken. `request` outlives the call.
  Task<void> reconfigure(const ReconfigureRequest& request, Nanoseconds limit = kCallMax);

  // One device or all. Empty when there is no such device.
  Task<std::vector<DeviceStatus>> status(std::optional<std::uint32_t> index,
                                         Nanoseconds limit = kCallMax);

  // For a Watcher, valid after open(): readable when take_events() has something. Never blocks.
  int events_fd() const;
  Result<LinkEvents> take_events();

  // Ends with false when the driver still holds a call after `patience`.
  Task<bool> close(Nanoseconds patience);

 private:
  using Build = std::function<NetlinkBytes(std::uint32_t sequence)>;
  using Late = std::function<void(Result<KernelAnswer>)>;

  Task<void> load_driver(const Modprobe* modprobe);
  Task<void> find_driver(Nanoseconds limit);
  // Carries out one request; `what` it is about is for the Error of one without an answer.
  Task<KernelAnswer> ask(std::string what, Build build, Nanoseconds limit, Late late = {});
  // Whether an index that is busy is only held open.
  bool only_opened(const Refusal& refusal, const ConnectRequest& request) const;

  Loop& loop_;
  Log& log_;
  const Sysfs& sysfs_;
  NetlinkSocketFactory factory_;
  Gate gate_;
  Helper helper_;
  NbdFamily family_;
  std::shared_ptr<Conversation> conversation_;  // with the helper's calls, which use it
  std::unique_ptr<NetlinkSocket> events_;
};

}  // namespace nbdkit
