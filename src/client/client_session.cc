// SPDX-License-Identifier: BSD-3-Clause
#include "client/client_session.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <utility>

#include "client/dial.h"
#include "client/handshake.h"

namespace nbdkit {
namespace {

// A gate that closes with another one, or when time is up. For a client that is at work nothing is
// idle: a loop with virtual time waits for the server.
class Deadline final : private Timer, private Gate::Interruptible {
 public:
  Deadline(Loop& loop, Gate& outer, Nanoseconds within)
      : Interruptible(outer), loop_(loop), gate_(loop) {
    if (outer.closed()) gate_.close();
    loop_.timers().arm(*this, loop_.now() + within);
    loop_.work_began();
  }
  virtual ~Deadline() { loop_.work_ended(); }

  Gate& gate() { return gate_; }
  bool expired_first() const { return expired_first_; }

 private:
  void expired() noexcept override {
    expired_first_ = true;
    gate_.close();
  }
  void interrupt() noexcept override { gate_.close(); }

  Loop& loop_;
  Gate gate_;
  bool expired_first_ = false;
};

Error explain(Error error, const Deadline& deadline, const RemoteOptions& options) {
  std::string address = to_string(options.address);
  if (error.code == std::errc::operation_canceled && deadline.expired_first()) {
    return Error(std::errc::timed_out,
                 fmt::format("{}: the server does not answer in time", address));
  }
  std::string text = error.message();
  if (error.code == std::errc::connection_reset && error.detail().empty()) {
    text = "the server has hung up";
  }
  return Error(error.code, fmt::format("{}: {}", address, text));
}

Task<ClientSession> open_session(Loop& loop, Gate& gate, const RemoteOptions& options) {
  ClientSession session;
  UniqueFd socket = co_await dial(loop, gate, options.address);
  session.socket = std::make_unique<SocketStream>(std::move(socket));
  ClientHandshake handshake(loop, gate, *session.socket, options.wishes);
  ClientAgreement agreement = co_await handshake.enter_export();
  session.agreement = std::move(agreement);
  session.tls = handshake.take_tls();
  co_return std::move(session);
}

Task<std::vector<ListAnswer>> open_and_list(Loop& loop, Gate& gate, const RemoteOptions& options) {
  UniqueFd socket = co_await dial(loop, gate, options.address);
  SocketStream stream(std::move(socket));
  ClientHandshake handshake(loop, gate, stream, options.wishes);
  std::vector<ListAnswer> exports = co_await handshake.list_exports();
  co_return std::move(exports);
}

// Runs one of the above within its time.
template <typename T>
Task<T> in_time(Loop& loop, Gate& gate, const RemoteOptions& options,
                Task<T> (*work)(Loop&, Gate&, const RemoteOptions&)) {
  Deadline deadline(loop, gate, options.handshake_max);
  Result<T> result = co_await work(loop, deadline.gate(), options).as_result();
  if (!result.ok()) co_await fail(explain(std::move(result).error(), deadline, options));
  co_return std::move(result).value();
}

}  // namespace

Task<ClientSession> connect_session(Loop& loop, Gate& gate, const RemoteOptions& options) {
  return in_time<ClientSession>(loop, gate, options, &open_session);
}

Task<std::vector<ListAnswer>> list_remote_exports(Loop& loop, Gate& gate,
                                                  const RemoteOptions& options) {
  return in_time<std::vector<ListAnswer>>(loop, gate, options, &open_and_list);
}

Task<NegotiatedSocket> negotiate_socket(Loop& loop, Gate& gate, const RemoteOptions& options) {
  RemoteOptions plain = options;
  plain.wishes.chunks = false;
  if (plain.wishes.tls == TlsMode::require) {
    co_await fail(Error(std::errc::operation_not_supported,
                        fmt::format("{}: whoever is given the socket cannot go on with TLS",
                                    to_string(options.address))));
  }
  plain.wishes.tls = TlsMode::off;
  ClientSession session = co_await connect_session(loop, gate, plain);
  NegotiatedSocket negotiated;
  negotiated.socket = session.socket->release();
  negotiated.agreement = std::move(session.agreement);
  int flags = ::fcntl(negotiated.socket.get(), F_GETFL);
  if (::fcntl(negotiated.socket.get(), F_SETFL, flags & ~O_NONBLOCK) < 0) {
    co_await fail(os_error("fcntl"));
  }
  co_return std::move(negotiated);
}

}  // namespace nbdkit
