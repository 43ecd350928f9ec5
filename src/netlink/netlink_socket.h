// SPDX-License-Identifier: BSD-3-Clause
// NetlinkSocket: bytes to and from the kernel's generic netlink. An interface, so that tests can
// put any answer into the kernel's mouth.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/parse.h"
#include "base/result.h"

namespace nbdkit {

// Used by one thread at a time.
class NetlinkSocket {
 public:
  // The kernel's largest dump message is 32 KiB; what is longer is an Error.
  static constexpr std::size_t kDatagramMax = 64 * 1024;

  virtual ~NetlinkSocket() = default;

  // Gives one request to the kernel, which carries it out before this returns: it may take for
  // ever.
  virtual Result<void> send(std::span<const std::byte> message) = 0;

  // The next datagram from the kernel; what others send is dropped. timed_out when none came
  // (a timeout of 0 does not wait), no_buffer_space when some were lost, message_size when one was
  // longer than kDatagramMax.
  virtual Result<std::vector<std::byte>> receive(Nanoseconds timeout) = 0;

  virtual Result<void> join(std::uint32_t multicast_group) = 0;

  // For a Watcher: readable when receive(0) has something.
  virtual int fd() const = 0;
};

// Makes a socket for generic netlink with extended acknowledgements on.
using NetlinkSocketFactory = std::function<Result<std::unique_ptr<NetlinkSocket>>()>;

// The real one.
Result<std::unique_ptr<NetlinkSocket>> open_netlink_socket();

}  // namespace nbdkit
