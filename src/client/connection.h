// SPDX-License-Identifier: BSD-3-Clause
// ClientConnection: one connection to a server in the transmission phase. Many requests are under
// way at once and are answered in any order.
//
//   ClientConnection::Call call(connection, header);
//   call.into = buffer;
//   Result<void> answered = co_await call;   // connection_reset: nobody will ever answer
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "async/loop.h"
#include "async/outbox.h"
#include "async/stream.h"
#include "client/agreement.h"
#include "client/client_session.h"
#include "client/reply_reader.h"

namespace nbdkit {

// One loop's; its thread only.
class ClientConnection final : private Watcher, private Job, private ReplyReader::Requests {
 public:
  static constexpr std::size_t kRequestsMax = 1 << 16;  // under way at once
  // From this size on data is received straight into its place. While such a read is under way only
  // kHeaderRoom bytes are received elsewhere, so that little of it has to be copied.
  static constexpr std::size_t kDirectMin = 32 * 1024;
  static constexpr std::size_t kHeaderRoom = 1024;
  static constexpr int kReceivesPerTurn = 8;  // then others have their turn

  // Lives in the coroutine that awaits it, once.
  class Call;

  // `lost` is told once, when the connection has failed and its socket is closed; the calls that
  // were under way end later in that turn.
  ClientConnection(Loop& loop, ClientSession session, std::function<void(const Error&)> lost);
  ClientConnection(const ClientConnection&) = delete;
  ClientConnection& operator=(const ClientConnection&) = delete;
  ~ClientConnection();  // No call may be under way.

  // Must come first.
  Result<void> start();

  const ClientAgreement& agreement() const { return agreement_; }
  bool alive() const { return socket_ != nullptr; }
  std::size_t calls() const { return calls_; }

  // Shuts the socket down and closes it. What was not sent will never arrive, but the server may
  // still carry out what it has received.
  void abort(Error why);
  // Takes leave of the server, when nothing is under way.
  void leave();
  // Ends when it may be destroyed, if no call begins any more. Once.
  Task<void> settled();

 private:
  class Settling;

  // Takes up again what fairness has cut short in the turn before.
  class Again final : public Job {
   public:
    explicit Again(ClientConnection& connection) : connection_(connection) {}
    virtual ~Again() = default;
    void run() noexcept override { connection_.receive_again(); }

   private:
    ClientConnection& connection_;
  };

  ByteStream& stream() const;

  void begin(Call& call);
  void send();
  bool can_send();
  void receive();
  bool receive_once();
  void receive_again();
  void settle();
  void give_back_sent();
  void close(bool discard_unsent);

  void ready(std::uint32_t epoll_events) noexcept override;  // Watcher
  void run() noexcept override;                              // Job, at the end of a turn: sends
  PendingReply* find(Cookie cookie) override;                // ReplyReader::Requests
  void answered(PendingReply& reply) override;

  Loop& loop_;
  std::unique_ptr<SocketStream> socket_;
  std::unique_ptr<TlsStream> tls_;  // above the socket, if there is one
  const ClientAgreement agreement_;
  std::function<void(const Error&)> lost_;
  Outbox outbox_;
  ReplyReader reader_;
  bool watching_ = false;
  Again again_{*this};
  bool again_queued_ = false;
  bool dirty_ = false;    // in the loop's list for the end of this turn
  bool blocked_ = false;  // waits until the socket takes more

  std::vector<Call*> slots_;  // a cookie begins with the place of its call
  std::vector<std::uint32_t> free_slots_;
  std::uint64_t sequence_ = 0;
  std::size_t calls_ = 0;
  std::size_t direct_reads_ = 0;
  std::vector<Call*> unsent_;     // answered before all of them had been sent
  Settling* settling_ = nullptr;  // waits for the end of the turn
};

class ClientConnection::Call final : public PendingReply, private Job {
 public:
  Call(ClientConnection& connection, const RequestHeader& asked) : connection_(connection) {
    header = asked;
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  std::span<const std::byte> payload{};  // of a write; stays where it is until the call ends

  bool await_ready();
  void await_suspend(std::coroutine_handle<> waiter);
  Result<void> await_resume();

 private:
  friend class ClientConnection;

  void run() noexcept override { waiter_.resume(); }

  ClientConnection& connection_;
  std::coroutine_handle<> waiter_;
  std::uint64_t sent_at_ = 0;  // how much the connection has sent when the payload is out
};

}  // namespace nbdkit
