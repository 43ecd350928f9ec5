// SPDX-License-Identifier: BSD-3-Clause
// HandoffClient: gives sockets to a server over its control socket. What the server says is
// checked like anything that comes from a stranger.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "async/loop.h"
#include "base/unique_fd.h"
#include "handoff/message.h"
#include "handoff/verbs.h"

namespace nbdkit {

// One loop's; its thread only. Several calls may be under way.
//
// Errors: timed_out; connection_reset when the server has gone; protocol_error when it breaks the
// protocol (both end every call); otherwise the server refused, and detail() is its sentence:
// invalid_argument, or not_supported for a verb or version that it does not know.
class HandoffClient final : private Watcher {
 public:
  static constexpr Seconds kCallMax{30};  // Opening an export may take a while.

  // `socket` is the other end of the server's --handoff-fd.
  HandoffClient(Loop& loop, UniqueFd socket);
  HandoffClient(const HandoffClient&) = delete;
  HandoffClient& operator=(const HandoffClient&) = delete;
  ~HandoffClient();  // No call is under way.

  // Begins to listen. `lost` is called once, on the loop, when the server has gone or talks
  // nonsense; it must not destroy this.
  Result<void> start(std::function<void(Error)> lost);

  // What an export would be. `request` outlives the call.
  Task<HandoffExport> query(const HandoffQuery& request, Nanoseconds limit = kCallMax);

  // Gives `socket`, which the caller still owns, to the server. `request` outlives the call.
  Task<HandoffServed> serve(int socket, const HandoffServe& request, Nanoseconds limit = kCallMax);

  // Ends every call with operation_canceled and closes the socket.
  void close();

 private:
  class Exchange;

  Task<Json> exchange(Json body, int descriptor, Nanoseconds limit);
  void ready(std::uint32_t epoll_events) noexcept override;
  void take(HandoffMessage& message);
  void lose(Error error);

  Loop& loop_;
  UniqueFd socket_;
  std::function<void(Error)> lost_;
  std::uint64_t next_sequence_ = 1;
  std::map<std::uint64_t, Exchange*> exchanges_;
  bool watching_ = false;
};

}  // namespace nbdkit
