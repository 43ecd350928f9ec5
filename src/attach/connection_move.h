// SPDX-License-Identifier: BSD-3-Clause
// ConnectionMove: from one server to another, or back to the same one, without a lost request.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "async/loop.h"
#include "base/unique_fd.h"
#include "handoff/handoff_client.h"

namespace nbdkit {

// The kernel's name of a socket (SO_COOKIE), the same for everybody who has it.
std::optional<std::uint64_t> cookie_of(int socket);

// All kernel connections of a device at once, because a server that does not share its data with
// others closes it only with the last of them. One loop's; its thread only. The calls come in the
// order take, open, go_on; restore instead of go_on.
class ConnectionMove {
 public:
  // How long requests under way may take.
  static constexpr Seconds kDrainMax{10};

  // `ends` are the keeper's descriptors of the sockets that the server has. `pattern` is what each
  // is served with, but for its state. What is passed outlives this.
  ConnectionMove(Loop& loop, const std::vector<UniqueFd>& ends, HandoffServe pattern);

  // What has been received is answered, and nothing more is read. A refusal (is_refusal()) has
  // changed nothing in the end; after any other Error nobody knows who serves what.
  Task<void> take(HandoffClient& from);

  // The other server opens the export once for each connection, and begins nothing. `accept` says
  // whether it is what the device needs. After an Error the server may hold some of them.
  using Accept = std::function<Result<void>(const HandoffExport&)>;
  Task<HandoffExport> open(HandoffClient& to, const Accept& accept);
  // Requests are answered again.
  Task<void> go_on(HandoffClient& to);
  // Gives up what open() has begun, in a server that lives on.
  Task<void> abandon(HandoffClient& to);
  // By the server that had them.
  Task<void> restore(HandoffClient& from);

 private:
  Task<void> take_all(HandoffClient& from, const std::vector<ConnectionId>& ids);
  Result<int> end_of(const HandoffMoved& moved) const;

  struct Stopped {
    int end;
    HandoffState state;
  };

  Loop& loop_;
  const std::vector<UniqueFd>& ends_;
  const HandoffServe pattern_;
  std::vector<Stopped> stopped_;
  std::vector<ConnectionId> held_;
};

}  // namespace nbdkit
