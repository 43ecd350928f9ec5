// SPDX-License-Identifier: BSD-3-Clause
#include "server/server.h"

#include <sys/socket.h>

#include <optional>
#include <utility>

#include "async/post.h"
#include "base/check.h"
#include "server/connection.h"

namespace nbdkit {
namespace {

// Waits on the main loop for what happens on a connection's.
class Opening final : public Job {
 public:
  explicit Opening(Loop& main_loop) : main_loop_(main_loop) {}

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) noexcept { waiter_ = waiter; }
  Result<ExportInfo> await_resume() { return std::move(*result_); }

  // The connection's loop. The main loop cannot run the job before it has suspended: both are its.
  void set(Result<ExportInfo> result) {
    result_.emplace(std::move(result));
    main_loop_.post(*this);
  }

 private:
  void run() noexcept override { waiter_.resume(); }

  Loop& main_loop_;
  std::optional<Result<ExportInfo>> result_;
  std::coroutine_handle<> waiter_;
};

}  // namespace

// Ends the patience with clients that do not take their answers.
class Server::Deadline final : public Timer {
 public:
  explicit Deadline(Server& server) : server_(server) {}
  virtual ~Deadline() = default;

 private:
  void expired() noexcept override {
    for (auto& [id, connection] : server_.connections_) connection->abandon();
  }

  Server& server_;
};

Server::Server(Runtime& runtime, LayerStack& stack, Log& log, ServerOptions options)
    : main_loop_(runtime.main_loop()),
      loops_(runtime.loops()),
      stack_(stack),
      log_(log),
      options_(options),
      gate_(main_loop_) {}

Server::~Server() { NBDKIT_CHECK(connections_.empty()); }

Task<Started> Server::start(UniqueFd socket, StartOptions options) {
  if (!gate_.enter()) co_await fail(Error(std::errc::operation_canceled, "the server is stopping"));
  Result<Loop*> loop = loops_.acquire();
  if (!loop.ok()) {
    gate_.leave();
    co_await fail(std::move(loop).error());
  }
  ConnectionId id = ++last_id_;
  bool waits = options.mode == StartOptions::Mode::transmission;
  auto connection =
      std::make_shared<Connection>(id, *loop.value(), stack_, log_, options_, std::move(options));
  connections_.emplace(id, connection);
  Opening opening(main_loop_);
  Connection::Events events;
  events.opened = [&opening](Result<ExportInfo> info) { opening.set(std::move(info)); };
  events.ended = [this, id] { post(main_loop_, [this, id] { ended(id); }); };
  connection->begin(std::move(socket), std::move(events));
  ExportInfo info;
  if (waits) {
    Result<ExportInfo> opened = co_await opening;
    if (!opened.ok()) co_await fail(std::move(opened).error());
    info = std::move(opened).value();
  }
  co_return Started{id, std::move(info)};
}

void Server::ended(ConnectionId id) {
  auto found = connections_.find(id);
  NBDKIT_CHECK(found != connections_.end());
  loops_.release(found->second->loop());
  connections_.erase(found);
  if (told_) told_(id);
  gate_.leave();
}

Task<ExportInfo> Server::query(std::string export_name, bool kernel) {
  if (!gate_.enter()) co_await fail(Error(std::errc::operation_canceled, "the server is stopping"));
  Gate::Pass pass(gate_);
  Gate sleeps(main_loop_);
  Context context(main_loop_, sleeps, log_, 0);
  context.read_only = options_.read_only;
  context.kernel = kernel;
  context.export_name = std::move(export_name);
  Layer& top = stack_.top();
  if (context.export_name.empty()) {
    std::string name = co_await top.default_export(context);
    context.export_name = std::move(name);
  }
  DevicePtr device = co_await top.open(context);
  ExportInfo info = export_info(device->properties(), options_.read_only, false);
  co_await device->close();
  co_return info;
}

Task<void> Server::stop() {
  for (auto& [id, connection] : connections_) connection->drain();
  Deadline deadline(*this);
  main_loop_.timers().arm(deadline, main_loop_.now() + kDrainMax);
  co_await gate_.drained();
}

}  // namespace nbdkit
