// SPDX-License-Identifier: BSD-3-Clause
#include "server/connection.h"

#include <sys/socket.h>

#include <utility>

#include "async/post.h"
#include "async/stream.h"
#include "server/channel.h"
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

}  // namespace

Connection::Connection(ConnectionId id, Loop& loop, LayerStack& stack, Log& log,
                       ServerOptions server_options, StartOptions options)
    : loop_(loop),
      stack_(stack),
      log_(log),
      options_(std::move(options)),
      who_(fmt::format("{}.{}", stack.entries().front().name, id)),
      gate_(loop),
      context_(loop, gate_, log, id) {
  context_.read_only = server_options.read_only;
  context_.calls_max = server_options.calls_max;
  context_.kernel = options_.kernel;
}

void Connection::begin(UniqueFd socket, Events events) {
  events_ = std::move(events);
  auto work = [self = shared_from_this(), fd = socket.release()] {
    finish(self->serve(UniqueFd(fd)), [self](Result<void>) { self->events_.ended(); });
  };
  post(loop_, std::move(work));
}

void Connection::drain() {
  post(loop_, [self = shared_from_this()] {
    self->draining_ = true;
    // Nothing has been promised to a client that is still shaking hands.
    if (self->transmission_ == nullptr) return self->gate_.close();
    self->transmission_->drain();
  });
}

void Connection::abandon() {
  post(loop_, [self = shared_from_this()] {
    self->draining_ = true;
    self->gate_.close();
    if (self->transmission_ != nullptr) self->transmission_->abandon();
  });
}

void Connection::log_failure(const Error& error) {
  // A client that leaves early, and our own stop, are nobody's failure.
  if (error.code == std::errc::operation_canceled || error.code == std::errc::connection_reset) {
    return log_.debug(who_, "the connection ended: {}", error.message());
  }
  log_.error(who_, "{}", error.message());
}

Task<void> Connection::serve(UniqueFd socket) {
  context_.peer = peer_of(socket.get());
  SocketStream stream(std::move(socket));
  Agreement agreement;
  agreement.read_only = context_.read_only;
  Result<DevicePtr> opened = DevicePtr();
  if (options_.mode == StartOptions::Mode::handshake) {
    opened = co_await negotiate(stream, agreement).as_result();
  } else {
    opened = co_await open_export().as_result();
  }
  if (!opened.ok()) {
    log_failure(opened.error());
  } else if (opened.value()) {
    co_await transmit(stream, std::move(opened).value(), agreement);
  }
  co_await gate_.drained();
}

Task<DevicePtr> Connection::negotiate(ByteStream& stream, Agreement& agreement) {
  Channel channel(loop_, gate_, stream);
  Handshake handshake(channel, stack_.top(), context_, who_);
  DevicePtr device = co_await handshake.run();
  agreement = handshake.agreement();
  co_return device;
}

Task<DevicePtr> Connection::open_export() {
  context_.export_name = options_.export_name;
  if (context_.export_name.empty()) {
    Result<std::string> name = co_await stack_.top().default_export(context_).as_result();
    if (name.ok()) context_.export_name = std::move(name).value();
  }
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
  events_.opened(std::move(info));
  co_return std::move(device).value();
}

Task<void> Connection::transmit(ByteStream& stream, DevicePtr opened, Agreement agreement) {
  Chain device(std::move(opened));
  Result<TransmissionEnd> end = TransmissionEnd::drained;
  if (!draining_) {
    Transmission transmission(context_, stream, device, agreement, who_);
    transmission_ = &transmission;
    end = co_await transmission.serve().as_result();
    transmission_ = nullptr;
  }
  if (!end.ok()) log_failure(end.error());
  gate_.close();
  Result<void> closed = co_await device.close().as_result();
  if (!closed.ok()) log_.error(who_, "close: {}", closed.error().message());
}

}  // namespace nbdkit
