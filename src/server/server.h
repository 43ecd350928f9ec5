// SPDX-License-Identifier: BSD-3-Clause
// Server: serves a stack of layers on every socket that it is given.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "async/runtime.h"
#include "base/unique_fd.h"
#include "block/layer_stack.h"
#include "server/export_info.h"

namespace nbdkit {

struct ServerOptions {
  bool read_only = false;
  std::size_t calls_max = 16;  // -t: blocking calls under way for one connection
};

struct StartOptions {
  enum class Mode { handshake, transmission };
  Mode mode = Mode::handshake;
  std::string export_name;  // transmission: the handshake names it otherwise
  bool kernel = false;      // the other end is the kernel's nbd driver
  // The descriptor came from somebody else and shares its file description with the giver: no
  // socket option and no file flag of it may be touched.
  bool foreign = false;
  // transmission: asked on the connection's loop when the export is open, before anything is
  // served; an Error closes it again and is what start() ends with.
  std::function<Result<void>(const ExportInfo&)> accept;
};

using ConnectionId = std::uint64_t;

struct Started {
  ConnectionId id;
  ExportInfo info;  // transmission only
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

  // What a client would be told about an export, without one.
  Task<ExportInfo> query(std::string export_name, bool kernel);

  // Called on the main loop whenever a connection has ended.
  void on_connection_end(std::function<void(ConnectionId)> told) { told_ = std::move(told); }
  std::size_t connections() const { return connections_.size(); }

  // Ends every connection: stops reading, finishes what is under way, sends it, closes the devices.
  // What a client does not take within kDrainMax is dropped.
  static constexpr Seconds kDrainMax{10};
  Task<void> stop();

 private:
  class Deadline;

  void ended(ConnectionId id);

  Loop& main_loop_;
  LoopPool& loops_;
  LayerStack& stack_;
  Log& log_;
  const ServerOptions options_;
  Gate gate_;  // every connection and every query is inside
  ConnectionId last_id_ = 0;
  std::map<ConnectionId, std::shared_ptr<Connection>> connections_;
  std::function<void(ConnectionId)> told_;
};

}  // namespace nbdkit
