// SPDX-License-Identifier: BSD-3-Clause
// Listeners: sockets on which clients arrive, and what accepts them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "async/loop.h"
#include "async/timers.h"
#include "base/log.h"
#include "base/unique_fd.h"

namespace nbdkit {

// A listening Unix socket at `path`, which must not exist and is never removed here. Errors name
// the path. The umask decides who may connect.
Result<UniqueFd> listen_unix(const std::string& path);

struct TcpAddress {
  enum class Family { any, ipv4, ipv6 };
  std::string host;  // a name or a number; empty: every address of this machine
  std::string port;  // a number or a service; "0": the kernel chooses
  Family family = Family::any;
};

struct TcpSockets {
  std::vector<UniqueFd> sockets;  // at least one
  std::uint16_t port = 0;         // the one that they have, also when the kernel chose it
};

// A listening socket for each address that `address` stands for. Addresses that are in use or
// whose family this kernel does not have are passed over as long as one is left.
Result<TcpSockets> listen_tcp(const TcpAddress& address, Log& log);

struct VsockSocket {
  UniqueFd socket;
  std::uint32_t port = 0;  // also when the kernel chose it
};

// A listening vsock(7) socket for the host and all virtual machines; 0: the kernel chooses.
Result<VsockSocket> listen_vsock(std::uint32_t port);

// Accepts on one socket. Main loop's; its thread only.
class Listener final : private Watcher, private Timer {
 public:
  using Accepted = std::function<void(UniqueFd connection)>;

  // Connections that one turn of the loop takes at most: the rest of the program waits meanwhile.
  static constexpr int kAcceptsMax = 64;
  // How long nothing is accepted when the process is out of descriptors or memory. The clients wait
  // in the kernel's queue.
  static constexpr Milliseconds kPause{100};
  // How often that is said at most, however often it ends and begins again.
  static constexpr Seconds kComplaintInterval{60};

  // `socket` is a listening one of this process alone. `accepted` gets close-on-exec descriptors.
  // `keepalive`: the kernel asks silent TCP clients whether they are there.
  Listener(Loop& loop, Log& log, UniqueFd socket, Accepted accepted, bool keepalive = false);
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener();

  Result<void> start();
  // Closes the socket, so that nobody waits in its queue for an answer that never comes.
  void stop();

 private:
  void ready(std::uint32_t epoll_events) noexcept override;
  void expired() noexcept override;
  bool accept_one();
  void pause(int error);
  void tune(int connection) const;

  Loop& loop_;
  Log& log_;
  UniqueFd socket_;
  Accepted accepted_;
  const bool keepalive_;
  int family_ = 0;
  bool watching_ = false;
  Nanoseconds quiet_until_{0};  // what goes wrong before is no news
};

}  // namespace nbdkit
