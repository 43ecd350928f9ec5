// SPDX-License-Identifier: BSD-3-Clause
// HandoffControl: the server's end of one control socket, on which a peer gives it sockets.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "async/gate.h"
#include "async/loop.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "block/properties.h"
#include "handoff/message.h"
#include "handoff/verbs.h"
#include "server/server.h"

namespace nbdkit {

// On the main loop; its thread only.
class HandoffControl final : private Watcher {
 public:
  // Requests being carried out and answers not taken yet; reading goes on when there is room.
  static constexpr std::size_t kRequestsMax = 16;

  // `socket` is a connected SOCK_SEQPACKET socket, whose file description others may share.
  // `contract` is that of the server's stack. What is passed outlives this.
  HandoffControl(Loop& loop, Server& server, Log& log, Contract contract, UniqueFd socket);
  HandoffControl(const HandoffControl&) = delete;
  HandoffControl& operator=(const HandoffControl&) = delete;
  ~HandoffControl();  // stop() has ended.

  // Begins to listen. `lost` is called once, on the loop, when the peer has gone; not after
  // stop(). Connections that it gave live on.
  Result<void> start(std::function<void()> lost);

  // Takes nothing more and waits for the requests under way.
  Task<void> stop();

 private:
  struct Outgoing {
    HandoffKind kind;
    std::uint64_t sequence;
    Json body;
  };

  void ready(std::uint32_t epoll_events) noexcept override;
  void read_requests();
  void take(HandoffPacket packet);
  void answer(Outgoing outgoing);
  void send_waiting();
  void update_watch();
  Task<void> carry_out(std::unique_ptr<HandoffMessage> message);
  // Nothing when it was done; `reply` is the answer then.
  Task<std::optional<HandoffProblem>> query(const Json& body, Json& reply);
  Task<std::optional<HandoffProblem>> serve(HandoffMessage& message, Json& reply);
  void lose();

  Loop& loop_;
  Server& server_;
  Log& log_;
  const Contract contract_;
  UniqueFd socket_;
  Gate gate_;
  std::function<void()> lost_;
  std::deque<Outgoing> waiting_;  // answers, until the peer takes them
  std::uint32_t watched_ = 0;
  bool started_ = false;
};

}  // namespace nbdkit
