// SPDX-License-Identifier: BSD-3-Clause
// Socket activation (sd_listen_fds(3)): sockets that the service manager has opened for the
// program, and what it has kept of the program's predecessor.
#pragma once

#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "handoff/connection_store.h"
#include "main/nbdkit_options.h"

namespace nbdkit {

struct Activation {
  // The manager's sockets; what it has kept does not count.
  static constexpr std::size_t kSocketsMax = 16;
  static constexpr std::size_t kDescriptorsMax = 65536;

  std::vector<UniqueFd> listening;  // stream sockets
  std::vector<UniqueFd> connected;  // stream sockets: of a unit with Accept=yes
  std::vector<UniqueFd> control;    // for handoff, listening or connected
  std::vector<NamedFd> kept;
  int end = 3;  // above every descriptor

  bool has_sockets() const { return !listening.empty() || !connected.empty() || !control.empty(); }
};

// Takes LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES out of the environment, and their descriptors.
// Before anything else opens one.
Result<Activation> take_activation(Log& log);

// Of an activated program: that no option asks for what it was given another of.
Result<void> check_activation(const Activation& activation, const Options& options);

}  // namespace nbdkit
