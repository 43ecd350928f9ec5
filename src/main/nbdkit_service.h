// SPDX-License-Identifier: BSD-3-Clause
// Service: the server at work, from the first connection to the last.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "async/runtime.h"
#include "block/layer_stack.h"
#include "handoff/handoff_control.h"
#include "main/nbdkit_options.h"
#include "main/nbdkit_process.h"
#include "main/nbdkit_signals.h"
#include "plugin_host/plugin_host.h"
#include "server/listener.h"
#include "server/server.h"
#include "server/stdio_relay.h"

namespace nbdkit {

// Made after the last fork. What is passed outlives it.
class Service final : private Watcher {
 public:
  Service(const Options& options, LayerStack& stack, PluginHost& host, const StopSignals& signals);
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;
  ~Service();

  // The ways in. Connections are accepted as soon as run() turns.
  Result<void> accept_on(std::vector<UniqueFd> listening);
  Result<void> serve_streams(StandardStreams streams);
  // When the other end has gone the connections that it gave live on, for behind them is perhaps a
  // mounted file system; the last of them ends the server, unless it listens elsewhere.
  Result<void> take_handoffs(UniqueFd control);

  enum class End {
    orderly,
    failed,  // orderly, but what was to be served was not
    forced,  // connections are under way: nothing may be destroyed any more
  };
  // Until a signal, the end of the one connection, or the end of everybody who could bring one.
  End run();

 private:
  // Stops later: whoever asks for the end stands in what ends.
  class StopJob final : public Job {
   public:
    explicit StopJob(Service& service) : service_(service) {}
    void run() noexcept override { service_.stop(); }

   private:
    Service& service_;
  };

  void ready(std::uint32_t epoll_events) noexcept override;
  void start(UniqueFd socket, bool foreign);
  void stop_if_over();
  void stop_soon();
  void stop();
  Task<void> shut_down();

  LayerStack& stack_;
  PluginHost& host_;
  const StopSignals& signals_;
  Log& log_;
  const bool single_;
  StopJob stop_job_;         // deferred at most once
  StopJob relay_ended_job_;  // posted by the relay
  Runtime runtime_;
  Loop& loop_;
  Server server_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::optional<StdioRelay> relay_;
  std::optional<HandoffControl> handoff_;
  bool handoff_lost_ = false;
  bool stop_deferred_ = false;
  bool stopping_ = false;
  End end_ = End::orderly;
};

}  // namespace nbdkit
