// SPDX-License-Identifier: BSD-3-Clause
#include "client/connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"

namespace nbdkit {
namespace {

constexpr unsigned kSlotBits = 16;
static_assert(ClientConnection::kRequestsMax == std::size_t{1} << kSlotBits);

std::uint32_t slot_of(Cookie cookie) {
  return static_cast<std::uint32_t>(cookie) & ((1u << kSlotBits) - 1);
}

bool is_direct(const RequestHeader& header) {
  return header.command == Command::read && header.length >= ClientConnection::kDirectMin;
}

}  // namespace

bool ClientConnection::Call::await_ready() {
  if (!connection_.alive()) {
    error.emplace(std::errc::connection_reset, std::string());
  } else if (connection_.calls_ == kRequestsMax) {
    error.emplace(std::errc::no_buffer_space, "too many requests are under way");
  }
  return error.has_value();
}

void ClientConnection::Call::await_suspend(std::coroutine_handle<> waiter) {
  waiter_ = waiter;
  connection_.begin(*this);
}

Result<void> ClientConnection::Call::await_resume() {
  if (error) return std::move(*error);
  return {};
}

ClientConnection::ClientConnection(Loop& loop, ClientSession session,
                                   std::function<void(const Error&)> lost)
    : loop_(loop),
      socket_(std::move(session.socket)),
      tls_(std::move(session.tls)),
      agreement_(std::move(session.agreement)),
      lost_(std::move(lost)),
      reader_(*this, agreement_) {}

ClientConnection::~ClientConnection() {
  NBDKIT_CHECK(calls_ == 0 && !dirty_ && !again_queued_);
  if (alive()) close(false);
}

ByteStream& ClientConnection::stream() const {
  if (tls_) return *tls_;
  return *socket_;
}

Result<void> ClientConnection::start() {
  NBDKIT_TRY(loop_.watch(socket_->fd(), EPOLLIN, *this));
  watching_ = true;
  if (stream().holds_more()) receive();
  return {};
}

void ClientConnection::begin(Call& call) {
  std::uint32_t slot = static_cast<std::uint32_t>(slots_.size());
  if (free_slots_.empty()) {
    slots_.push_back(&call);
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
    slots_[slot] = &call;
  }
  ++calls_;
  // No cookie comes twice: the answer to an old request is never taken for that to a new one.
  call.header.cookie = Cookie{++sequence_ << kSlotBits | slot};
  if (is_direct(call.header)) ++direct_reads_;
  if (agreement_.extended_headers) {
    if (!call.payload.empty()) call.header.flags |= command_flag::kPayloadLength;
    outbox_.add(to_extended_wire(call.header));
  } else {
    outbox_.add(to_wire(call.header));
  }
  if (!call.payload.empty()) outbox_.add(call.payload.data(), call.payload.size());
  outbox_.count_message();
  call.sent_at_ = outbox_.added();
  if (outbox_.full()) return send();
  if (!std::exchange(dirty_, true)) loop_.at_turn_end(*this);
}

class ClientConnection::Settling final : public Job {
 public:
  explicit Settling(ClientConnection& connection) : connection_(connection) {}
  virtual ~Settling() = default;

  bool await_ready() const noexcept { return !connection_.dirty_ && !connection_.again_queued_; }
  void await_suspend(std::coroutine_handle<> waiter) noexcept {
    waiter_ = waiter;
    connection_.settling_ = this;
  }
  void await_resume() const noexcept {}
  void run() noexcept override { waiter_.resume(); }

 private:
  ClientConnection& connection_;
  std::coroutine_handle<> waiter_;
};

Task<void> ClientConnection::settled() {
  Settling settling(*this);
  co_await settling;
}

void ClientConnection::run() noexcept {
  dirty_ = false;
  if (alive()) send();
  settle();
}

void ClientConnection::receive_again() {
  again_queued_ = false;
  if (alive()) receive();
  settle();
}

void ClientConnection::settle() {
  if (settling_ == nullptr || dirty_ || again_queued_) return;
  loop_.defer(*std::exchange(settling_, nullptr));
}

void ClientConnection::send() {
  if (blocked_) return;
  Result<bool> sent = outbox_.send(stream());
  if (!sent.ok()) return abort(std::move(sent).error());
  give_back_sent();
  blocked_ = !sent.value();
  if (blocked_) loop_.change_watch(socket_->fd(), EPOLLIN | EPOLLOUT, *this);
}

// A server may answer a write before it has all of it, for instance that it cannot write at all.
void ClientConnection::give_back_sent() {
  if (unsent_.empty()) return;
  std::erase_if(unsent_, [&](Call* call) {
    if (call->sent_at_ > outbox_.sent()) return false;
    --calls_;
    loop_.defer(*call);
    return true;
  });
}

void ClientConnection::ready(std::uint32_t epoll_events) noexcept {
  if ((epoll_events & EPOLLOUT) != 0 && blocked_) {
    blocked_ = false;
    loop_.change_watch(socket_->fd(), EPOLLIN, *this);
    send();
  }
  if (alive() && (epoll_events & ~std::uint32_t{EPOLLOUT}) != 0) receive();
}

void ClientConnection::receive() {
  for (int left = kReceivesPerTurn; receive_once(); --left) {
    if (left > 0) continue;
    // The socket says by itself that there is more; what lies in front of it does not.
    if (stream().holds_more() && !std::exchange(again_queued_, true)) loop_.at_next_turn(again_);
    return;
  }
}

// Whether more may be there.
bool ClientConnection::receive_once() {
  std::span<std::byte> direct = reader_.destination();
  std::span<std::byte> scratch = loop_.scratch();
  if (direct_reads_ > 0) scratch = scratch.first(kHeaderRoom);
  std::array<iovec, 2> pieces{{{direct.data(), direct.size()}, {scratch.data(), scratch.size()}}};
  Result<std::size_t> received =
      stream().receive(std::span(pieces).subspan(direct.empty() ? 1 : 0));
  if (!received.ok()) {
    bool empty = received.error().code == std::errc::resource_unavailable_try_again;
    if (!empty) abort(std::move(received).error());
    return false;
  }
  std::size_t length = received.value();
  if (length == 0) {
    abort(Error(std::errc::connection_reset, "the server has hung up"));
    return false;
  }
  std::size_t straight = std::min(length, direct.size());
  Result<void> taken;
  if (straight > 0) taken = reader_.filled(straight);
  if (taken.ok()) taken = reader_.take(scratch.first(length - straight));
  if (!taken.ok()) {
    abort(std::move(taken).error());
    return false;
  }
  return length == direct.size() + scratch.size() || stream().holds_more();
}

PendingReply* ClientConnection::find(Cookie cookie) {
  std::uint32_t slot = slot_of(cookie);
  if (slot >= slots_.size() || slots_[slot] == nullptr) return nullptr;
  return slots_[slot]->header.cookie == cookie ? slots_[slot] : nullptr;
}

void ClientConnection::answered(PendingReply& reply) {
  Call& call = static_cast<Call&>(reply);
  std::uint32_t slot = slot_of(call.header.cookie);
  slots_[slot] = nullptr;
  free_slots_.push_back(slot);
  if (is_direct(call.header)) --direct_reads_;
  if (!call.payload.empty() && call.sent_at_ > outbox_.sent()) {
    unsent_.push_back(&call);
    return;
  }
  --calls_;
  loop_.defer(call);
}

void ClientConnection::abort(Error why) {
  if (!alive()) return;
  close(true);
  outbox_.clear();
  auto end = [&](Call* call) {
    if (call == nullptr) return;
    call->error.emplace(std::errc::connection_reset, std::string());
    loop_.defer(*call);
  };
  std::for_each(slots_.begin(), slots_.end(), end);
  for (Call* call : unsent_) loop_.defer(*call);  // These have been answered.
  slots_.clear();
  free_slots_.clear();
  unsent_.clear();
  calls_ = direct_reads_ = 0;
  if (lost_) lost_(why);
}

void ClientConnection::leave() {
  if (!alive()) return;
  NBDKIT_CHECK(calls_ == 0);
  const RequestHeader header{Command::disconnect, 0, Cookie{++sequence_ << kSlotBits}, 0, 0};
  if (agreement_.extended_headers) {
    outbox_.add(to_extended_wire(header));
  } else {
    outbox_.add(to_wire(header));
  }
  Result<bool> sent = outbox_.send(stream());  // It need not arrive: hanging up says the same.
  static_cast<void>(sent);
  if (tls_) tls_->say_goodbye();
  close(false);
}

// With `discard_unsent` the kernel does not go on sending what it still has of ours: a write that
// nobody will wait for any more must not arrive later than one that was sent on another connection.
void ClientConnection::close(bool discard_unsent) {
  if (std::exchange(watching_, false)) loop_.unwatch(socket_->fd(), *this);
  const linger at_once{1, 0};
  if (discard_unsent) {
    ::setsockopt(socket_->fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  }
  ::shutdown(socket_->fd(), discard_unsent ? SHUT_RDWR : SHUT_WR);
  tls_.reset();
  socket_.reset();
}

}  // namespace nbdkit
