// SPDX-License-Identifier: BSD-3-Clause
// Server: serves a stack of layers on every socket that it is given.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/runtime.h"
#include "base/unique_fd.h"
#include "block/layer_stack.h"
#include "block/request_figures.h"
#include "block/request_ledger.h"
#include "server/agreement.h"
#include "server/export_info.h"
#include "server/handshake_rules.h"
#include "server/payload_budget.h"

namespace nbdkit {

struct ServerOptions {
  bool read_only = false;
  std::size_t calls_max = 16;  // -t: blocking calls under way for one connection
  HandshakeRules handshake;
  RequestLedger* ledger = nullptr;  // of what kernels have asked for; outlives the server
  bool stocked = false;             // --swap: a request must not need memory
};

using ConnectionId = std::uint64_t;

struct StartOptions {
  enum class Mode { handshake, transmission };
  Mode mode = Mode::handshake;
  std::string export_name;  // transmission: the handshake names it otherwise
  bool kernel = false;      // the other end is the kernel's nbd driver
  // The descriptor came from somebody else and shares its file description with the giver: no
  // socket option and no file flag of it may be touched.
  bool foreign = false;
  std::optional<uid_t> owner;  // who gave it
  // transmission: what has been agreed on, and received, where the connection was served before.
  Agreement agreement;
  std::vector<std::byte> unread;  // at most Transmission::kUnreadMax bytes
  // transmission: asked on the connection's loop when the export is open, before anything is
  // served; an Error closes it again and is what start() ends with.
  std::function<Result<void>(const ExportInfo&)> accept;
  // transmission: the export is opened, and not a byte is read before go_on(), for which
  // Server::kHoldMax is waited.
  bool hold = false;
};

struct Started {
  ConnectionId id;
  ExportInfo info;  // transmission only
};

// A connection as others may see it.
struct ConnectionView {
  enum class Phase { handshake, held, transmission, ending };
  ConnectionId id = 0;
  std::optional<uid_t> owner;
  StartOptions::Mode mode = StartOptions::Mode::handshake;
  Phase phase = Phase::handshake;
  std::string export_name;  // "" while the client has not named it
  bool kernel = false;
  std::optional<std::uint64_t> cookie;  // SO_COOKIE of a socket that was given
};

enum class ConnectionEnd {
  disconnected,  // the client said so
  closed,        // the client left without a word
  failed,        // the socket, the handshake or the export
  stopped,       // close() or stop()
  moved,         // take_over()
};

// What is left of a connection when somebody else serves it on.
struct MovedConnection {
  UniqueFd socket;
  Agreement agreement;
  std::vector<std::byte> unread;
  std::string export_name;
  bool kernel = false;
  ExportInfo info;
};

// Told on the main loop. Must not start or end a connection from within.
class ServerObserver {
 public:
  virtual void began(const ConnectionView&) {}
  virtual void ended(const ConnectionView&, ConnectionEnd) {}
  virtual void emptied() {}  // no connection is left
  virtual void stopping() {}

 protected:
  ~ServerObserver() = default;
};

class Connection;

// Lives on the main loop; every call comes from its thread.
class Server {
 public:
  // What is passed outlives the server.
  Server(Runtime& runtime, LayerStack& stack, Log& log, ServerOptions options);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server();  // stop() has ended.

  // Serves a connected stream socket until its client leaves. In transmission mode it ends when the
  // export is open and requests are answered; in handshake mode at once.
  Task<Started> start(UniqueFd socket, StartOptions options);
  static constexpr Seconds kHoldMax{60};
  // Begins to serve a connection that was started with `hold`. Errors: no_such_process when there
  // is none; operation_not_permitted when it is not held.
  Result<void> go_on(ConnectionId id);

  // What a client would be told about an export, without one.
  Task<ExportInfo> query(std::string export_name, bool kernel);

  // The observer outlives the server or takes itself back.
  void observe(ServerObserver& observer) { observers_.push_back(&observer); }
  void unobserve(ServerObserver& observer) { std::erase(observers_, &observer); }

  std::size_t connections() const { return members_.size(); }
  // Null when there is none. Valid until the loop turns.
  const ConnectionView* find(ConnectionId id) const;
  std::size_t count(const std::function<bool(const ConnectionView&)>& wanted) const;
  // The first after `after` that `wanted` wants, or null.
  const ConnectionView* next(ConnectionId after,
                             const std::function<bool(const ConnectionView&)>& wanted) const;

  // What a client does not take of its answers within this time is dropped.
  static constexpr Seconds kDrainMax{10};
  // Ends one connection, with `drain` after it has been answered, and waits for its end. Errors:
  // no_such_process when there is none.
  Task<void> close(ConnectionId id, bool drain);
  // Stops a connection at the boundary of a request and gives its socket back. Errors:
  // no_such_process; operation_not_permitted when it cannot be moved; timed_out when its requests
  // take longer than `limit`; it is served on then. connection_reset when it has ended meanwhile.
  Task<MovedConnection> take_over(ConnectionId id, Nanoseconds limit);
  // Of all connections that there are and have been; with `kernel` only of those whose peer is a
  // kernel, or is none.
  Task<RequestFigures> figures(std::optional<bool> kernel);
  // Ends every connection: stops reading, finishes what is under way, sends it, closes the devices.
  Task<void> stop();

 private:
  class Deadline;
  class Gone;
  struct Member;

  Result<void> admit(int socket, const StartOptions& options, Member& member);
  PayloadBudget* budget_for(const StartOptions& options);
  void ended(ConnectionId id, ConnectionEnd end);
  template <typename Tell>
  void tell_observers(Tell tell);

  Loop& main_loop_;
  LoopPool& loops_;
  LayerStack& stack_;
  Log& log_;
  const ServerOptions options_;
  // Clients of each kind do not take memory away from those of the other. A kernel, given by root,
  // has no limit but its own: what it cannot write back, it cannot free.
  PayloadBudget listening_budget_;
  PayloadBudget handed_budget_;
  Gate gate_;  // every connection and every query is inside
  ConnectionId last_id_ = 0;
  std::map<ConnectionId, std::unique_ptr<Member>> members_;
  std::vector<ServerObserver*> observers_;
  RequestFigures clients_before_;  // of connections that have ended
  RequestFigures kernels_before_;
};

}  // namespace nbdkit
