// SPDX-License-Identifier: BSD-3-Clause
// Service: the server at work, from the first connection to the last.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "async/runtime.h"
#include "base/notify_socket.h"
#include "block/layer_stack.h"
#include "handoff/connection_store.h"
#include "handoff/handoff_door.h"
#include "main/nbdkit_options.h"
#include "main/nbdkit_process.h"
#include "main/nbdkit_signals.h"
#include "main/nbdkit_status.h"
#include "plugin_host/plugin_host.h"
#include "server/listener.h"
#include "server/server.h"
#include "server/stdio_relay.h"

namespace nbdkit {

// Made after the last fork. What is passed outlives it.
class Service final : private Watcher, private ServerObserver {
 public:
  Service(const Options& options, LayerStack& stack, PluginHost& host, const StopSignals& signals,
          const NotifySocket& manager, RequestLedger* ledger);
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;
  ~Service();

  // Gets the threads and descriptors without which no client can be served. Comes first.
  Result<void> prepare();
  // Every thread that there will ever be.
  Result<void> make_all_threads();
  // What keepers are told of it.
  void tell_guards(Json guards) { guards_ = std::move(guards); }

  // The ways in. Connections are accepted as soon as run() turns.
  Result<void> accept_on(std::vector<UniqueFd> listening);
  Result<void> serve_streams(StandardStreams streams);
  // When the other ends have gone the connections that it gave live on, for behind them is perhaps
  // a mounted file system; the last of them ends the server, unless it listens elsewhere.
  Result<void> take_handoffs(UniqueFd control);
  // `sockets` in the order of `given`. One that cannot be served makes the end `failed`.
  void serve_given(const std::vector<GivenSocket>& given, std::vector<UniqueFd> sockets);
  // Connections of the server that was here before.
  void serve_kept(std::vector<NamedFd> kept) { store_.restore(std::move(kept)); }

  enum class End {
    orderly,
    failed,  // orderly, but what was to be served was not
    forced,  // connections are under way: nothing may be destroyed any more
  };
  // Until a signal, the end of the one connection, or the end of everybody who could bring one.
  End run();

 private:
  // Signals in this time are one wish: scripts repeat them until the process is gone, and whoever
  // ends a process group often reaches a process in it twice. Afterwards no client is left to be
  // answered, so what another one cuts short can only be a plugin that does not come back.
  static constexpr Seconds kSameWish = Server::kDrainMax;

  // Calls a member function later: whoever asks for the end stands in what ends.
  class Later final : public Job {
   public:
    Later(Service& service, void (Service::*function)()) : service_(service), function_(function) {}
    void run() noexcept override { (service_.*function_)(); }

   private:
    Service& service_;
    void (Service::*function_)();
  };

  void ready(std::uint32_t epoll_events) noexcept override;
  void emptied() override { stop_if_over(); }
  void start(UniqueFd socket, StartOptions options, bool needed);
  bool is_over() const;
  void stop_if_over();
  void stop_if_still_over();
  void relay_ended();
  void stop();
  Task<void> shut_down();

  LayerStack& stack_;
  PluginHost& host_;
  const StopSignals& signals_;
  Log& log_;
  const HandoffOptions handoff_options_;
  const bool keepalive_;
  const bool tls_required_;
  const std::size_t threads_;
  Json guards_;
  // What clients have been told is there for the next server, too.
  const bool keeps_connections_;
  Later check_job_{*this, &Service::stop_if_still_over};
  Later relay_job_{*this, &Service::relay_ended};  // posted by the relay
  Runtime runtime_;
  Loop& loop_;
  Server server_;
  ServiceStatus status_;
  ConnectionStore store_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::optional<StdioRelay> relay_;
  std::optional<HandoffDoor> handoff_;
  bool relay_ended_ = false;
  bool check_deferred_ = false;
  bool stopping_ = false;
  Nanoseconds stopping_since_{0};
  End end_ = End::orderly;
};

}  // namespace nbdkit
