// SPDX-License-Identifier: BSD-3-Clause
// ControlServer: the keeper's control socket (docs/control-protocol.md).
#pragma once

#include <list>
#include <memory>
#include <string>

#include "async/gate.h"
#include "async/loop.h"
#include "attach/json_rpc.h"
#include "base/unique_fd.h"

namespace nbdkit {

// Who carries the calls out.
class ControlHandler {
 public:
  virtual bool knows(std::string_view method) const = 0;
  // `call` outlives the Task; its parameters were not looked at. An Error with the code
  // argument_out_of_domain says that they are wrong.
  virtual Task<Json> call(const RpcCall& call) = 0;

 protected:
  ~ControlHandler() = default;
};

// One loop's; its thread only. Only processes of our own user (root) are heard.
class ControlServer final : private Watcher {
 public:
  static constexpr std::size_t kClientsMax = 16;
  static constexpr std::size_t kLineMax = 1024 * 1024;

  // What is passed outlives this.
  ControlServer(Loop& loop, ControlHandler& handler);
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;
  ~ControlServer();  // stop() has ended, unless start() was never called.

  // Listens at `path`, which whoever was there before has left behind.
  Result<void> start(const std::string& path);

  // Hears no more calls, answers those under way and closes every connection. A client that does
  // not take its answer loses it.
  Task<void> stop();

 private:
  class Client;

  void ready(std::uint32_t epoll_events) noexcept override;
  void accept_one(UniqueFd socket);

  Loop& loop_;
  ControlHandler& handler_;
  Gate gate_;
  UniqueFd listener_;
  std::list<std::unique_ptr<Client>> clients_;
};

}  // namespace nbdkit
