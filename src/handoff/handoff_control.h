// SPDX-License-Identifier: BSD-3-Clause
// HandoffControl: the server's end of one control socket, on which a peer gives it sockets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>

#include "async/gate.h"
#include "async/loop.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "handoff/handoff_requests.h"
#include "handoff/message.h"
#include "server/server.h"

namespace nbdkit {

// On the main loop; its thread only.
class HandoffControl final : private Watcher, private ServerObserver {
 public:
  // Requests being carried out and answers not taken yet; reading goes on when there is room.
  static constexpr std::size_t kRequestsMax = 16;
  // Kept for a subscriber who does not read; later ones are counted only.
  static constexpr std::size_t kEventsMax = 64;

  // `socket` is a connected SOCK_SEQPACKET socket, whose file description others may share; `user`
  // is who is at its other end. What is passed outlives this.
  HandoffControl(Loop& loop, Server& server, Log& log, const HandoffTerms& terms, UniqueFd socket,
                 uid_t user);
  HandoffControl(const HandoffControl&) = delete;
  HandoffControl& operator=(const HandoffControl&) = delete;
  ~HandoffControl();  // stop() has ended.

  // Begins to listen. `lost` is called once, on the loop, when the peer has gone; not after
  // stop(). Connections that it gave live on.
  Result<void> start(std::function<void()> lost);

  // Takes nothing more and waits for the requests under way.
  Task<void> stop();

  uid_t user() const { return user_; }

 private:
  struct Outgoing {
    HandoffKind kind;
    std::uint64_t sequence;
    HandoffReply reply;
  };

  void ready(std::uint32_t epoll_events) noexcept override;
  void began(const ConnectionView& connection) override;
  void ended(const ConnectionView& connection, ConnectionEnd end) override;
  void stopping() override;

  void read_requests();
  void take(HandoffPacket packet);
  Task<void> carry_out(std::unique_ptr<HandoffMessage> message);
  bool subscribe(const HandoffMessage& message, std::optional<HandoffProblem>& problem);
  void tell(Json event);
  void answer_problem(std::uint64_t sequence, const HandoffProblem& problem);
  void answer(Outgoing outgoing);
  void send_waiting();
  void serve_on(HandoffReply reply);
  void update_watch();
  bool has_room() const { return gate_.inside() + answers_ < kRequestsMax; }
  void lose();

  Loop& loop_;
  Server& server_;
  Log& log_;
  UniqueFd socket_;
  const uid_t user_;
  HandoffRequests requests_;
  Gate gate_;
  std::function<void()> lost_;
  std::deque<Outgoing> waiting_;  // answers and events, until the peer takes them
  std::size_t answers_ = 0;       // of those
  std::uint64_t missed_ = 0;      // events
  bool subscribed_ = false;
  std::uint32_t watched_ = 0;
  bool started_ = false;
};

}  // namespace nbdkit
