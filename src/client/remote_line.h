// SPDX-License-Identifier: BSD-3-Clause
// RemoteLine: one connection to a remote export that is made again when it is lost.
#pragma once

#include <coroutine>
#include <functional>
#include <memory>

#include "async/gate.h"
#include "async/loop.h"
#include "base/log.h"
#include "client/client_session.h"
#include "client/connection.h"
#include "client/remote_options.h"

namespace nbdkit {

// One loop's; its thread only.
//
// A lost connection is tried again with growing delays for as long as the gate is open. Requests
// wait for options.reconnect_max, and fail at once from then on until the server is back.
class RemoteLine final : private Timer, private Job {
 public:
  static constexpr Milliseconds kDelayMin{100};
  static constexpr Milliseconds kDelayMax{5'000};

  // All that is given outlives it. `losses` counts those of all lines of an export. `lost` is told
  // before any call of the connection ends.
  RemoteLine(Loop& loop, Gate& gate, Log& log, const RemoteOptions& options, std::uint64_t& losses,
             std::function<void()> lost);
  virtual ~RemoteLine();

  Result<void> start(ClientSession session);
  // The connection, if there is one now.
  ClientConnection* connection() const { return alive() ? connection_.get() : nullptr; }
  bool alive() const { return connection_ && connection_->alive(); }
  // How many losses there had been when the connection was made.
  std::uint64_t losses_before() const { return losses_before_; }
  // A server that says that it is about to end is left before it does. Whether the line will come
  // back.
  bool retire();

  // Waits until there is a connection. The Error tells why there is none.
  Task<void> until_up();

  // No request waits any more, and none will: who wanted the answers has gone. Calls that are under
  // way are given up after `patience`.
  void give_up(Nanoseconds patience);
  // When nothing is under way any more. The last call.
  Task<void> close();

 private:
  enum class State { up, waiting, failing };
  class Waiter;

  void on_lost(const Error& why);
  void expired() noexcept override;  // Timer
  void run() noexcept override;      // Job: begins to connect again
  void wake_waiters();
  Task<void> connect_again();
  Task<void> try_again();
  Result<void> install(ClientSession session);

  Loop& loop_;
  Gate& gate_;
  Log& log_;
  const RemoteOptions& options_;
  std::uint64_t& losses_;
  std::uint64_t losses_before_ = 0;
  std::function<void()> lost_;
  std::unique_ptr<ClientConnection> connection_;
  ClientAgreement first_;  // what requests were made for
  State state_ = State::failing;
  std::string why_;  // it is failing
  bool given_up_ = false;
  JobQueue waiters_;
};

}  // namespace nbdkit
