// SPDX-License-Identifier: BSD-3-Clause
// HandoffDoor: all control sockets of a server, and where new ones arrive.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "async/gate.h"
#include "async/loop.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "handoff/handoff_control.h"
#include "server/listener.h"
#include "server/server.h"

namespace nbdkit {

// A listening control socket at `path`, for those whom `mode` lets connect. What is there already
// is removed when it is a socket on which nobody listens any more; otherwise that is an Error.
Result<UniqueFd> listen_handoff(const std::string& path, mode_t mode);

// A control socket that is connected to a server which listens at `path`. Never blocks.
// connection_refused when nobody listens any more.
Result<UniqueFd> connect_handoff(const std::string& path);

// On the main loop; its thread only.
class HandoffDoor final {
 public:
  static constexpr std::size_t kControlsMax = 64;  // of one user who is not root

  // `users` are heard besides root and the server's own user. `emptied` is called on the loop when
  // nobody listens for control sockets and the last one has gone. What is passed outlives this.
  HandoffDoor(Loop& loop, Server& server, Log& log, HandoffTerms terms, std::vector<uid_t> users,
              std::function<void()> emptied);
  HandoffDoor(const HandoffDoor&) = delete;
  HandoffDoor& operator=(const HandoffDoor&) = delete;
  ~HandoffDoor();  // stop() has ended.

  // A SOCK_SEQPACKET socket, listening or connected: the Error says what else it is. Who is at the
  // other end of a connected one has been trusted by whoever gave it to this process.
  Result<void> open(UniqueFd socket);

  // Whether sockets may still be given. Of who was given a connected control socket nobody else is
  // waited for: a listening one is for who comes to take that one's place.
  bool is_open() const { return !controls_.empty() || (!given_control_ && !listeners_.empty()); }

  // Whoever comes from here on is left to the next server.
  void stop_listening() { listeners_.clear(); }
  // Hears nobody any more and waits for the requests under way.
  Task<void> stop();

 private:
  Result<void> adopt(UniqueFd socket, uid_t user);
  void accepted(UniqueFd socket);
  void retire(HandoffControl& control);
  Task<void> end(std::unique_ptr<HandoffControl> control);

  Loop& loop_;
  Server& server_;
  Log& log_;
  const HandoffTerms terms_;
  const std::vector<uid_t> users_;
  std::function<void()> emptied_;
  std::list<Listener> listeners_;
  std::list<std::unique_ptr<HandoffControl>> controls_;
  bool given_control_ = false;
  Gate gate_;  // controls on their way to their end
};

}  // namespace nbdkit
