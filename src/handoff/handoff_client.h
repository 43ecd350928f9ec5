// SPDX-License-Identifier: BSD-3-Clause
// HandoffClient: gives sockets to a server over its control socket. What the server says is
// checked like anything that comes from a stranger.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include <vector>

#include "async/loop.h"
#include "base/parse.h"
#include "base/unique_fd.h"
#include "handoff/connection_verbs.h"
#include "handoff/figures_verb.h"
#include "handoff/message.h"
#include "handoff/verbs.h"

namespace nbdkit {

// Whether the server has said no, and nothing has changed.
bool is_refusal(const Error& error);

// One loop's; its thread only. Several calls may be under way.
//
// Errors: timed_out; connection_reset when the server has gone; protocol_error when it breaks the
// protocol (both end every call); otherwise the server refused, and detail() is its sentence:
// invalid_argument, not_supported for what it does not know, resource_unavailable_try_again for
// what took it too long.
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

  // Begins to serve what was given with HandoffServe::hold.
  Task<void> go_on(ConnectionId id, Nanoseconds limit = kCallMax);
  // Ends one without another byte, and ends when it has ended.
  Task<void> abandon(ConnectionId id, Nanoseconds limit = kCallMax);

  // What the server serves of what this user may see, at most HandoffList::kConnectionsMax.
  Task<std::vector<HandoffListed>> list(Nanoseconds limit = kCallMax);

  // What the server has been asked for: by kernels, by others, or by all.
  Task<RequestFigures> figures(std::optional<bool> kernel, Nanoseconds limit = kCallMax);

  // From now on `ended` is called, on the loop, when a connection of this user's has ended, until
  // close(). It must not destroy this.
  Task<void> subscribe(std::function<void()> ended, Nanoseconds limit = kCallMax);

  // Takes a socket back at the boundary of a request. `limit` is the server's. A refusal says that
  // it serves the socket on, if it does at all; after other Errors nobody knows.
  Task<HandoffMoved> take_over(ConnectionId id, Milliseconds limit);

  // Ends every call with operation_canceled and closes the socket.
  void close();

 private:
  class Exchange;
  struct Answer {
    Json body;
    UniqueFd descriptor;
  };
  // Whether a descriptor may come with the answer.
  enum class Brings { nothing, socket };

  Task<Json> exchange(Json body, int descriptor, Nanoseconds limit);
  Task<Answer> exchange_with(Json body, int descriptor, Nanoseconds limit, Brings brings);
  static Result<HandoffMoved> moved_by(Answer answer);
  void ready(std::uint32_t epoll_events) noexcept override;
  void take(HandoffMessage& message);
  void take_event(const Json& body);
  void lose(Error error);

  Loop& loop_;
  UniqueFd socket_;
  std::function<void(Error)> lost_;
  std::function<void()> ended_;
  std::uint64_t next_sequence_ = 1;
  std::map<std::uint64_t, Exchange*> exchanges_;
  bool watching_ = false;
};

}  // namespace nbdkit
