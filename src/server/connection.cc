// SPDX-License-Identifier: BSD-3-Clause
#include "server/connection.h"

#include <sys/socket.h>

#include <utility>

#include "async/channel.h"
#include "async/post.h"
#include "async/stream.h"
#include "server/control_trace.h"
#include "server/farewell.h"
#include "server/handshake.h"

namespace nbdkit {
namespace {

Peer peer_of(int socket) {
  Peer peer;
  sockaddr_storage address;
  socklen_t length = sizeof address;
  if (::getpeername(socket, reinterpret_cast<sockaddr*>(&address), &length) == 0) {
    peer.address.assign(reinterpret_cast<const char*>(&address), length);
  }
  ucred credentials;
  length = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0 &&
      credentials.pid > 0) {
    peer.pid = credentials.pid;
    peer.uid = credentials.uid;
    peer.gid = credentials.gid;
  }
  return peer;
}

ConnectionEnd end_of(TransmissionEnd end) {
  switch (end) {
    case TransmissionEnd::disconnected:
      return ConnectionEnd::disconnected;
    case TransmissionEnd::closed:
      return ConnectionEnd::closed;
    case TransmissionEnd::failed:
      return ConnectionEnd::failed;
    case TransmissionEnd::drained:
      return ConnectionEnd::stopped;
  }
  return ConnectionEnd::failed;
}

// The client has gone without a word. Some do not wait for the answer to NBD_OPT_ABORT, which is
// their right (NBD protocol, "Option types").
bool is_leaving(const Error& error) {
  return error.code == std::errc::connection_reset || error.code == std::errc::broken_pipe;
}

ConnectionEnd end_of(const Error& error) {
  if (error.code == std::errc::operation_canceled) return ConnectionEnd::stopped;
  if (is_leaving(error)) return ConnectionEnd::closed;
  return ConnectionEnd::failed;
}

}  // namespace

// A take-over under way, and its deadline.
class Connection::Move final : public Timer {
 public:
  Move(Connection& connection, std::function<void(Result<MovedConnection>)> told)
      : connection_(connection), told_(std::move(told)) {}
  virtual ~Move() = default;

  void tell(Result<MovedConnection> result) { std::exchange(told_, nullptr)(std::move(result)); }

  std::optional<MovedConnection> moved;  // all but the socket, when the transmission has drained

 private:
  void expired() noexcept override {
    // One that is ending already is as good as moved.
    if (connection_.transmission_ == nullptr || !connection_.transmission_->go_on_serving()) return;
    tell(Error(std::errc::timed_out, "its requests take too long; it is served on"));
    connection_.move_.reset();
  }

  Connection& connection_;
  std::function<void(Result<MovedConnection>)> told_;
};

// With a client that is to be disconnected and does not take its answers.
class Connection::Patience final : public Timer {
 public:
  explicit Patience(Connection& connection) : connection_(connection) {
    Loop& loop = connection.loop_;
    loop.timers().arm(*this, loop.now() + Server::kDrainMax);
  }
  virtual ~Patience() = default;

 private:
  void expired() noexcept override { connection_.abandon_now(); }

  Connection& connection_;
};

// For a client that takes its time.
class Connection::HandshakeLimit final : public Timer {
 public:
  explicit HandshakeLimit(Connection& connection) : connection_(connection) {
    Loop& loop = connection.loop_;
    if (limit() > Nanoseconds(0)) loop.timers().arm(*this, loop.now() + limit());
  }
  virtual ~HandshakeLimit() = default;

 private:
  Nanoseconds limit() const { return connection_.rules_.limit; }
  void expired() noexcept override {
    connection_.log_.error(connection_.who_,
                           "the handshake took more than {} s: closing the connection",
                           std::chrono::duration<double>(limit()).count());
    connection_.drain_now();
  }

  Connection& connection_;
};

Connection::Connection(ConnectionId id, Loop& loop, LayerStack& stack, Log& log,
                       ServerOptions server_options, StartOptions options, PayloadBudget* budget)
    : loop_(loop),
      stack_(stack),
      log_(log),
      rules_(server_options.handshake),
      options_(std::move(options)),
      budget_(budget),
      who_(fmt::format("{}.{}", stack.entries().front().name, id)),
      gate_(loop),
      hold_(loop),
      context_(loop, gate_, log, id) {
  context_.read_only = server_options.read_only;
  context_.calls_max = server_options.calls_max;
  context_.kernel = options_.kernel;
  // What is only flushed survives no crash, and the kernel's users expect no less than of a disk.
  context_.write_through = options_.kernel && stack.contract().survives == Survives::flushed;
  context_.stocked = server_options.stocked;
  context_.control = this;
  if (options_.kernel) context_.ledger = server_options.ledger;
}

Connection::~Connection() = default;

void Connection::begin(UniqueFd socket, Events events) {
  events_ = std::move(events);
  auto work = [self = shared_from_this(), fd = socket.release()] {
    finish(self->serve(UniqueFd(fd)),
           [self](Result<ConnectionEnd> end) { self->events_.ended(end.value()); });
  };
  post(loop_, std::move(work));
}

void Connection::go_on() {
  post(loop_, [self = shared_from_this()] { self->hold_.close(); });
}

void Connection::drain() {
  post(loop_, [self = shared_from_this()] { self->drain_now(); });
}

void Connection::abandon() {
  post(loop_, [self = shared_from_this()] { self->abandon_now(); });
}

void Connection::disconnect(bool force) {
  post(loop_, [self = shared_from_this(), force] {
    if (self->socket_ < 0) return;  // It has ended meanwhile.
    if (force) return self->abandon_now();
    self->drain_now();
    if (self->patience_ == nullptr) self->patience_ = std::make_unique<Patience>(*self);
  });
}

void Connection::drain_now() {
  draining_ = true;
  hold_.close();
  // Nothing has been promised to a client that is still shaking hands.
  if (transmission_ == nullptr) return gate_.close();
  transmission_->drain();
}

void Connection::abandon_now() {
  draining_ = true;
  hold_.close();
  gate_.close();
  if (transmission_ != nullptr) transmission_->abandon();
  // The client need not wait for what the device is still doing. A giver's socket is not ours to
  // shut down.
  if (socket_ >= 0 && !options_.foreign) ::shutdown(socket_, SHUT_RDWR);
}

void Connection::take_over(Nanoseconds limit, std::function<void(Result<MovedConnection>)> told) {
  post(loop_, [self = shared_from_this(), limit, told = std::move(told)] {
    self->begin_move(limit, std::move(told));
  });
}

void Connection::tell_figures(std::function<void(RequestFigures)> told) {
  post(loop_, [self = shared_from_this(), told = std::move(told)] {
    told(self->transmission_ != nullptr ? self->transmission_->figures() : self->figures_);
  });
}

void Connection::begin_move(Nanoseconds limit, std::function<void(Result<MovedConnection>)> told) {
  if (transmission_ == nullptr || draining_ || move_ != nullptr) {
    return told(Error(std::errc::operation_not_permitted,
                      "it is in its handshake, held, or on its way to its end"));
  }
  if (context_.tls) {
    return told(Error(std::errc::operation_not_permitted,
                      "it is encrypted, and its keys cannot be moved to another server"));
  }
  move_ = std::make_unique<Move>(*this, std::move(told));
  loop_.timers().arm(*move_, loop_.now() + limit);
  transmission_->drain();
}

void Connection::end_move(SocketStream& stream) {
  std::unique_ptr<Move> move = std::move(move_);
  if (!move->moved) {
    return move->tell(Error(std::errc::connection_reset, "the connection has ended meanwhile"));
  }
  move->moved->socket = stream.release();
  move->tell(std::move(*move->moved));
}

void Connection::log_failure(const Error& error) {
  // A client that leaves early, and our own stop, are nobody's failure.
  if (error.code == std::errc::operation_canceled || is_leaving(error)) {
    return log_.debug(who_, "the connection ended: {}", error.message());
  }
  log_.error(who_, "{}", error.message());
}

Task<ConnectionEnd> Connection::serve(UniqueFd socket) {
  if (context_.stocked) {
    Result<void> stocked = loop_.stock();
    if (!stocked.ok()) {
      log_.warning(who_, "{}: requests may have to wait for some", stocked.error().message());
      context_.stocked = false;
    }
  }
  context_.peer = peer_of(socket.get());
  socket_ = socket.get();
  SocketStream stream(std::move(socket));
  TlsUpgrade upgrade(context_, stream,
                     options_.foreign ? TlsStream::Kernel::never : TlsStream::Kernel::when_offered);
  Agreement agreement = options_.agreement;
  agreement.read_only = context_.read_only;
  Result<DevicePtr> opened = DevicePtr();
  if (options_.mode == StartOptions::Mode::handshake) {
    opened = co_await negotiate(upgrade, agreement).as_result();
  } else {
    opened = co_await open_export().as_result();
  }
  ConnectionEnd end = ConnectionEnd::disconnected;
  if (!opened.ok()) {
    // Otherwise it is what start() has ended with.
    if (options_.mode == StartOptions::Mode::handshake) log_failure(opened.error());
    end = end_of(opened.error());
  } else if (opened.value()) {
    if (options_.hold) co_await wait_to_go_on();
    end = co_await transmit(upgrade.stream(), std::move(opened).value(), agreement);
  }
  if (upgrade.tls() != nullptr) upgrade.tls()->say_goodbye();
  co_await gate_.drained();
  patience_.reset();
  socket_ = -1;
  if (move_) {
    if (move_->moved) end = ConnectionEnd::moved;
    end_move(stream);
  }
  if (options_.foreign) loop_.close_elsewhere(stream.release());
  co_return end;
}

Task<DevicePtr> Connection::negotiate(TlsUpgrade& upgrade, Agreement& agreement) {
  Channel channel(loop_, gate_, upgrade.stream());
  Handshake handshake(channel, upgrade, stack_.top(), context_, rules_, who_);
  HandshakeLimit limit(*this);
  DevicePtr device = co_await handshake.run();
  agreement = handshake.agreement();
  if (device) events_.transmitting(context_.export_name);
  co_return device;
}

Task<DevicePtr> Connection::open_export() {
  context_.export_name = options_.export_name;
  if (context_.export_name.empty()) {
    Result<std::string> name = co_await stack_.top().default_export(context_).as_result();
    if (name.ok()) {
      context_.export_name = std::move(name).value();
    } else {
      log_.error(who_, "default_export: {}", name.error().message());
    }
  }
  trace_open(context_, who_);
  Result<DevicePtr> device = co_await stack_.top().open(context_).as_result();
  if (!device.ok()) {
    events_.opened(Error(device.error().code, std::string(device.error().message())));
    co_await fail(std::move(device).error());
  }
  ExportInfo info = export_info(device.value()->properties(), context_.read_only, false);
  Result<void> accepted = options_.accept ? options_.accept(info) : Result<void>();
  if (!accepted.ok()) {
    (void)co_await device.value()->close().as_result();
    events_.opened(Error(accepted.error().code, std::string(accepted.error().detail())));
    co_await fail(std::move(accepted).error());
  }
  events_.transmitting(context_.export_name);
  events_.opened(std::move(info));
  co_return std::move(device).value();
}

Task<void> Connection::wait_to_go_on() {
  Result<void> waited = co_await loop_.sleep(Server::kHoldMax, hold_).as_result();
  if (!waited.ok()) co_return;
  log_.error(who_, "nobody has said within {} s that it goes on: closing the connection",
             Server::kHoldMax.count());
  draining_ = true;
}

Task<ConnectionEnd> Connection::transmit(ByteStream& stream, DevicePtr opened,
                                         Agreement agreement) {
  Chain device(std::move(opened));
  Result<TransmissionEnd> end = TransmissionEnd::drained;
  if (!draining_) {
    Transmission transmission(context_, stream, device, agreement, who_, budget_);
    transmission_ = &transmission;
    end = co_await transmission.serve(options_.unread).as_result();
    transmission_ = nullptr;
    figures_ = transmission.figures();
    // What the giver of a socket, or another server, goes on with is not ours to answer.
    if (draining_ && !move_ && !options_.foreign && end.ok() &&
        end.value() == TransmissionEnd::drained) {
      refuse_requests(stream, agreement, transmission.unread());
    }
    if (move_) loop_.timers().disarm(*move_);
    if (move_ && end.ok() && end.value() == TransmissionEnd::drained) {
      std::span<const std::byte> unread = transmission.unread();
      move_->moved.emplace();
      move_->moved->unread.assign(unread.begin(), unread.end());
      move_->moved->agreement = agreement;
      move_->moved->export_name = context_.export_name;
      move_->moved->kernel = options_.kernel;
      move_->moved->info =
          export_info(device.properties(), context_.read_only, agreement.structured_replies);
    }
  }
  if (!end.ok()) log_failure(end.error());
  gate_.close();
  trace_control(context_, who_, "close");
  Result<void> closed = co_await device.close().as_result();
  if (!closed.ok()) log_.error(who_, "close: {}", closed.error().message());
  if (draining_ && end.ok() && end.value() == TransmissionEnd::failed) {
    co_return ConnectionEnd::stopped;  // abandoned
  }
  co_return end.ok() ? end_of(end.value()) : ConnectionEnd::failed;
}

}  // namespace nbdkit
