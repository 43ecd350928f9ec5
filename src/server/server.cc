// SPDX-License-Identifier: BSD-3-Clause
#include "server/server.h"

#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "async/answer.h"
#include "async/post.h"
#include "base/check.h"
#include "server/connection.h"

namespace nbdkit {

struct Server::Member {
  std::shared_ptr<Connection> connection;
  ConnectionView view;
  bool announced = false;      // to the observers
  std::vector<Gone*> waiting;  // for its end
};

// A coroutine that waits for the end of a connection.
class Server::Gone {
 public:
  explicit Gone(Member& member) : member_(member) {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) noexcept {
    waiter_ = waiter;
    member_.waiting.push_back(this);
  }
  void await_resume() const noexcept {}
  void tell() { waiter_.resume(); }

 private:
  Member& member_;
  std::coroutine_handle<> waiter_;
};

// Ends the patience with clients that do not take their answers: with one, or with all.
class Server::Deadline final : public Timer {
 public:
  explicit Deadline(Server& server, std::optional<ConnectionId> id = std::nullopt)
      : server_(server), id_(id) {}
  virtual ~Deadline() = default;

 private:
  void expired() noexcept override {
    for (auto& [id, member] : server_.members_) {
      if (!id_ || *id_ == id) member->connection->abandon();
    }
  }

  Server& server_;
  const std::optional<ConnectionId> id_;
};

Server::Server(Runtime& runtime, LayerStack& stack, Log& log, ServerOptions options)
    : main_loop_(runtime.main_loop()),
      loops_(runtime.loops()),
      stack_(stack),
      log_(log),
      options_(options),
      gate_(main_loop_) {}

Server::~Server() { NBDKIT_CHECK(members_.empty()); }

// Who is told something may take itself, or another one, off the list.
template <typename Tell>
void Server::tell_observers(Tell tell) {
  for (ServerObserver* observer : std::vector(observers_)) {
    bool there = std::find(observers_.begin(), observers_.end(), observer) != observers_.end();
    if (there) tell(*observer);
  }
}

// Two connections on one socket would tear each other's requests apart.
Result<void> Server::admit(int socket, const StartOptions& options, Member& member) {
  if (!options.foreign) return {};
  std::uint64_t cookie;
  socklen_t length = sizeof cookie;
  if (::getsockopt(socket, SOL_SOCKET, SO_COOKIE, &cookie, &length) != 0) return {};
  for (const auto& [id, other] : members_) {
    if (other->view.cookie == cookie) {
      return Error(std::errc::device_or_resource_busy,
                   fmt::format("the socket is served already, as connection {}", id));
    }
  }
  member.view.cookie = cookie;
  return {};
}

// Anybody can say that his client is a kernel; only root can give a kernel sockets.
PayloadBudget* Server::budget_for(const StartOptions& options) {
  if (options.kernel && options.owner == uid_t{0}) return nullptr;
  return options.foreign ? &handed_budget_ : &listening_budget_;
}

Task<Started> Server::start(UniqueFd socket, StartOptions options) {
  if (gate_.closed()) co_await fail(Error(std::errc::operation_canceled, "the server is stopping"));
  auto member = std::make_unique<Member>();
  Result<void> admitted = admit(socket.get(), options, *member);
  if (!admitted.ok()) co_await fail(std::move(admitted).error());
  Result<Loop*> loop = loops_.acquire();
  if (!loop.ok()) co_await fail(std::move(loop).error());
  NBDKIT_CHECK(gate_.enter());
  const ConnectionId id = ++last_id_;
  const bool waits = options.mode == StartOptions::Mode::transmission;
  member->view.id = id;
  member->view.owner = options.owner;
  member->view.mode = options.mode;
  member->view.kernel = options.kernel;
  if (waits && options.hold) member->view.phase = ConnectionView::Phase::held;
  member->announced = !waits;
  PayloadBudget* budget = budget_for(options);
  auto connection = std::make_shared<Connection>(id, *loop.value(), stack_, log_, options_,
                                                 std::move(options), budget);
  member->connection = connection;
  ConnectionView& view = member->view;
  members_.emplace(id, std::move(member));
  Answer<ExportInfo> opening(main_loop_);
  Connection::Events events;
  events.opened = [&opening](Result<ExportInfo> info) { opening.set(std::move(info)); };
  events.transmitting = [this, &view](std::string name) {
    post(main_loop_, [&view, name] {
      view.export_name = name;
      if (view.phase == ConnectionView::Phase::handshake) {
        view.phase = ConnectionView::Phase::transmission;
      }
    });
  };
  events.ended = [this, id](ConnectionEnd end) {
    post(main_loop_, [this, id, end] { ended(id, end); });
  };
  connection->begin(std::move(socket), std::move(events));
  ExportInfo info;
  if (waits) {
    Result<ExportInfo> opened = co_await opening;
    if (!opened.ok()) co_await fail(std::move(opened).error());
    info = std::move(opened).value();
    members_.at(id)->announced = true;
  }
  tell_observers([&](ServerObserver& observer) { observer.began(view); });
  co_return Started{id, std::move(info)};
}

Result<void> Server::go_on(ConnectionId id) {
  auto found = members_.find(id);
  if (found == members_.end()) return std::errc::no_such_process;
  Member& member = *found->second;
  if (member.view.phase != ConnectionView::Phase::held) {
    return Error(std::errc::operation_not_permitted, "it is not held");
  }
  member.view.phase = ConnectionView::Phase::transmission;
  member.connection->go_on();
  return {};
}

void Server::ended(ConnectionId id, ConnectionEnd end) {
  auto found = members_.find(id);
  NBDKIT_CHECK(found != members_.end());
  std::unique_ptr<Member> member = std::move(found->second);
  members_.erase(found);
  loops_.release(member->connection->loop());
  (member->view.kernel ? kernels_before_ : clients_before_) += member->connection->last_figures();
  if (member->announced) {
    tell_observers([&](ServerObserver& observer) { observer.ended(member->view, end); });
  }
  for (Gone* waiting : member->waiting) waiting->tell();
  if (members_.empty()) tell_observers([](ServerObserver& observer) { observer.emptied(); });
  gate_.leave();
}

const ConnectionView* Server::find(ConnectionId id) const {
  auto found = members_.find(id);
  return found != members_.end() && found->second->announced ? &found->second->view : nullptr;
}

std::size_t Server::count(const std::function<bool(const ConnectionView&)>& wanted) const {
  return static_cast<std::size_t>(
      std::count_if(members_.begin(), members_.end(),
                    [&](const auto& member) { return wanted(member.second->view); }));
}

const ConnectionView* Server::next(ConnectionId after,
                                   const std::function<bool(const ConnectionView&)>& wanted) const {
  for (auto member = members_.upper_bound(after); member != members_.end(); ++member) {
    if (member->second->announced && wanted(member->second->view)) return &member->second->view;
  }
  return nullptr;
}

Task<void> Server::close(ConnectionId id, bool drain) {
  auto found = members_.find(id);
  if (found == members_.end()) co_await fail(std::errc::no_such_process);
  Member& member = *found->second;
  member.view.phase = ConnectionView::Phase::ending;
  Deadline deadline(*this, id);
  if (drain) {
    member.connection->drain();
    main_loop_.timers().arm(deadline, main_loop_.now() + kDrainMax);
  } else {
    member.connection->abandon();
  }
  Gone gone(member);
  co_await gone;
}

Task<MovedConnection> Server::take_over(ConnectionId id, Nanoseconds limit) {
  auto found = members_.find(id);
  if (found == members_.end()) co_await fail(std::errc::no_such_process);
  Answer<MovedConnection> answer(main_loop_);
  found->second->connection->take_over(
      limit, [&answer](Result<MovedConnection> moved) { answer.set(std::move(moved)); });
  Result<MovedConnection> moved = co_await answer;
  if (!moved.ok()) co_await fail(std::move(moved).error());
  // Its end follows at once; from then on the socket may be served again.
  auto ending = members_.find(id);
  if (ending != members_.end()) {
    Gone gone(*ending->second);
    co_await gone;
  }
  co_return std::move(moved).value();
}

Task<RequestFigures> Server::figures(std::optional<bool> kernel) {
  if (!gate_.enter()) co_await fail(Error(std::errc::operation_canceled, "the server is stopping"));
  Gate::Pass pass(gate_);
  RequestFigures all;
  if (kernel.value_or(true)) all += kernels_before_;
  if (!kernel.value_or(false)) all += clients_before_;
  // What ends from now on is told by its connection, which outlives its place in the list.
  std::vector<std::shared_ptr<Connection>> asked;
  for (const auto& [id, member] : members_) {
    if (kernel.value_or(member->view.kernel) == member->view.kernel) {
      asked.push_back(member->connection);
    }
  }
  for (const std::shared_ptr<Connection>& connection : asked) {
    Answer<RequestFigures> answer(main_loop_);
    connection->tell_figures([&answer](RequestFigures figures) { answer.set(std::move(figures)); });
    Result<RequestFigures> told = co_await answer;
    all += told.value();
  }
  co_return all;
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
  tell_observers([](ServerObserver& observer) { observer.stopping(); });
  for (auto& [id, member] : members_) {
    member->view.phase = ConnectionView::Phase::ending;
    member->connection->drain();
  }
  Deadline deadline(*this);
  main_loop_.timers().arm(deadline, main_loop_.now() + kDrainMax);
  co_await gate_.drained();
}

}  // namespace nbdkit
