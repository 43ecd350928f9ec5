// SPDX-License-Identifier: BSD-3-Clause
// ConnectionStore: lets connections outlive a server that ends in good order. The service manager
// keeps their sockets, and the next server goes on with them.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "async/gate.h"
#include "async/loop.h"
#include "base/log.h"
#include "base/notify_socket.h"
#include "base/unique_fd.h"
#include "handoff/stored_connection.h"
#include "server/server.h"

namespace nbdkit {

struct NamedFd {
  std::string name;
  UniqueFd fd;
};

// On the main loop; its thread only.
class ConnectionStore {
 public:
  // What is passed outlives this.
  ConnectionStore(Loop& loop, Server& server, Log& log, const NotifySocket& manager)
      : loop_(loop),
        server_(server),
        log_(log),
        manager_(manager),
        restoring_(loop),
        storing_(loop) {}

  // How long the manager may take until it has taken everything.
  static constexpr Seconds kBarrierMax{5};

  // Until everything that restore() has begun is served, or lost.
  Task<void> settled() { return restoring_.drained(); }

  // After settled(). Stops every connection that can be moved at the boundary of a request and
  // gives it to the manager. Ends when the manager has them all. What cannot be moved is served on.
  Task<void> store_all();

  // What the manager has kept is served on. It keeps nothing of it from here on: a state that is
  // served is an old one at once, and must not come again.
  void restore(std::vector<NamedFd> kept);

 private:
  Task<void> store(ConnectionId id);
  Result<void> give(ConnectionId id, MovedConnection& moved, std::optional<uid_t> owner);
  Result<void> restore_one(const std::string& name, std::vector<UniqueFd> descriptors);

  Loop& loop_;
  Server& server_;
  Log& log_;
  const NotifySocket& manager_;
  Gate restoring_;  // connections whose export is being opened
  Gate storing_;    // connections on their way to the manager
  std::size_t stored_ = 0;
};

}  // namespace nbdkit
