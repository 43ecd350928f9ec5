// SPDX-License-Identifier: BSD-3-Clause
// Connection: one client, from its socket to the closing of its device.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "async/loop.h"
#include "block/layer_stack.h"
#include "server/server.h"
#include "server/tls_upgrade.h"
#include "server/transmission.h"

namespace nbdkit {

// Belongs to the server on the main loop and works on a loop of its own. Shared, because a message
// from one to the other may still be on its way when the connection has ended.
class Connection final : public std::enable_shared_from_this<Connection>,
                         private ConnectionControl {
 public:
  // Told on the connection's loop. `opened` only in transmission mode and before `ended`; the
  // functions must not touch the connection.
  struct Events {
    std::function<void(Result<ExportInfo>)> opened;
    std::function<void(std::string export_name)> transmitting;
    std::function<void(ConnectionEnd)> ended;
  };

  Connection(ConnectionId id, Loop& loop, LayerStack& stack, Log& log, ServerOptions server_options,
             StartOptions options, PayloadBudget* budget);
  ~Connection();

  // Any thread, once each.
  void begin(UniqueFd socket, Events events);
  // With StartOptions::hold: begins to serve.
  void go_on();
  // Ends at the boundary of a request.
  void drain();
  // Ends without another byte.
  void abandon();
  // The same for a layer, which may be in the middle of a call: what it says counts before its
  // answer does, so with `force` the client does not get that.
  void disconnect(bool force) override;
  // Ends at the boundary of a request and gives the socket away (Server::take_over). `told` is
  // called once, on the connection's loop or, when the connection has ended, as soon as possible.
  void take_over(Nanoseconds limit, std::function<void(Result<MovedConnection>)> told);

  // `told` is called once, on the connection's loop, also when the connection has ended.
  void tell_figures(std::function<void(RequestFigures)> told);
  // What is left of them when it has ended, on the main loop.
  const RequestFigures& last_figures() const { return figures_; }

  Loop& loop() const { return loop_; }

 private:
  class HandshakeLimit;
  class Move;
  class Patience;

  void drain_now();
  void abandon_now();
  Task<ConnectionEnd> serve(UniqueFd socket);
  Task<DevicePtr> negotiate(TlsUpgrade& upgrade, Agreement& agreement);
  Task<DevicePtr> open_export();
  Task<void> wait_to_go_on();
  Task<ConnectionEnd> transmit(ByteStream& stream, DevicePtr opened, Agreement agreement);
  void begin_move(Nanoseconds limit, std::function<void(Result<MovedConnection>)> told);
  void end_move(SocketStream& stream);
  void log_failure(const Error& error);

  Loop& loop_;
  LayerStack& stack_;
  Log& log_;
  const HandshakeRules rules_;
  const StartOptions options_;
  PayloadBudget* const budget_;
  const std::string who_;
  Gate gate_;
  Gate hold_;  // closed when it need not wait any more
  Context context_;
  Events events_;
  int socket_ = -1;  // while it is served
  bool draining_ = false;
  Transmission* transmission_ = nullptr;  // while it runs
  RequestFigures figures_;                // of one that has run
  std::unique_ptr<Move> move_;            // under way
  std::unique_ptr<Patience> patience_;    // with a client that a layer disconnects
};

}  // namespace nbdkit
