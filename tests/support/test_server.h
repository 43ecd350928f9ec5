// SPDX-License-Identifier: BSD-3-Clause
// TestServer: a real Server on threads of its own, over any stack of layers.
#pragma once

#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "async/post.h"
#include "async/runtime.h"
#include "server/server.h"
#include "support/wire_client.h"

namespace nbdkit {

class TestServer {
 public:
  explicit TestServer(std::unique_ptr<Layer> plugin, ServerOptions options = {});
  ~TestServer();  // Stops the server; what was under way is finished.

  // A client at the other end of a socket pair.
  WireClient connect(StartOptions options = {});
  // Gives the server a socket as it is.
  Result<Started> start(UniqueFd socket, StartOptions options);
  Result<ExportInfo> query(std::string export_name);
  // Ends when every connection has.
  void stop();

  std::string log() const;

  // For what belongs to the main loop, from the Task that `make` makes there.
  template <typename Make>
  auto on_main_loop(Make make) -> decltype(make().take()) {
    std::promise<decltype(make().take())> promise;
    post(runtime_.main_loop(),
         [&] { finish(make(), [&](auto result) { promise.set_value(std::move(result)); }); });
    return promise.get_future().get();
  }
  Loop& main_loop() { return runtime_.main_loop(); }
  Server& server() { return *server_; }
  LayerStack& stack() { return *stack_; }
  Log& log_sink();

 private:
  class Recorder;

  Runtime runtime_;
  std::unique_ptr<Recorder> log_;
  std::unique_ptr<Environment> environment_;
  std::unique_ptr<LayerStack> stack_;
  std::unique_ptr<Server> server_;
  bool stopped_ = false;
  std::thread thread_;
};

}  // namespace nbdkit
