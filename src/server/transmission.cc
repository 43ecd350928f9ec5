// SPDX-License-Identifier: BSD-3-Clause
#include "server/transmission.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/range.h"
#include "server/transmission_slot.h"

namespace nbdkit {
namespace {

// While requests are begun that have been received (RequestLedger::Lease).
class Begins {
 public:
  Begins(RequestLedger::Lease& lease, int socket)
      : lease_(lease), allowed_(!lease || lease.enter(socket)) {}
  Begins(const Begins&) = delete;
  Begins& operator=(const Begins&) = delete;
  ~Begins() {
    if (lease_) lease_.leave();
  }

  bool allowed() const { return allowed_; }

 private:
  RequestLedger::Lease& lease_;
  const bool allowed_;
};

}  // namespace

Transmission::Transmission(Context& context, ByteStream& stream, const Chain& device,
                           Agreement agreement, std::string_view who, PayloadBudget* budget)
    : context_(context),
      stream_(stream),
      device_(device),
      agreement_(agreement),
      who_(who),
      can_write_(device.properties().can_write && !agreement.read_only),
      writes_through_(context.write_through && device.properties().can_fua),
      stocked_(context.stocked),
      header_size_(agreement.extended_headers ? sizeof(ExtendedRequestWire) : sizeof(RequestWire)),
      share_(budget) {
  if (context.ledger != nullptr) ledger_ = context.ledger->lease();
  if (stocked_) stock();
}

Transmission::~Transmission() { NBDKIT_CHECK(in_flight_ == 0 && !dirty_ && !again_queued_); }

Task<TransmissionEnd> Transmission::serve(std::span<const std::byte> unread) {
  NBDKIT_CHECK(unread.size() < header_size_);
  std::copy(unread.begin(), unread.end(), stash_.begin());
  stash_size_ = unread.size();
  watched_ = EPOLLIN;
  Result<void> watching = context_.loop().watch(stream_.fd(), watched_, *this);
  if (!watching.ok()) co_await fail(std::move(watching).error());

  struct End {
    std::coroutine_handle<>& waiter;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> self) const noexcept { waiter = self; }
    void await_resume() const noexcept {}
  };
  End end{waiter_};
  if (stream_.holds_more()) mark_dirty();
  co_await end;

  if (!dead_) context_.loop().unwatch(stream_.fd(), *this);
  co_return end_;
}

void Transmission::drain() {
  if (state_ != State::serving) return;
  state_ = State::draining;
  end_ = TransmissionEnd::drained;
  progress_ = true;
  mark_dirty();
}

bool Transmission::go_on_serving() {
  if (state_ != State::draining || finished()) return false;
  state_ = State::serving;
  end_ = TransmissionEnd::closed;
  progress_ = true;
  mark_dirty();
  return true;
}

void Transmission::abandon() {
  stop(state_ == State::ending ? end_ : TransmissionEnd::failed);
  lose();
}

void Transmission::stop(TransmissionEnd end) {
  state_ = State::ending;
  end_ = end;
  keep({});
  stash_size_ = 0;
  partial_.reset();
  skip_ = 0;
  share_.shrink_to(bytes_held());
  mark_dirty();
}

// The peer is gone: nobody waits for delayed answers any more.
void Transmission::lose() {
  if (dead_) return;
  dead_ = true;
  context_.loop().unwatch(stream_.fd(), *this);
  outbox_.clear();
  send_blocked_ = false;
  for (Slot* slot : std::exchange(sending_, {})) retire(*slot);
  context_.gate().close();
  mark_dirty();
}

void Transmission::mark_dirty() {
  if (dirty_) return;
  dirty_ = true;
  context_.loop().at_turn_end(*this);
}

void Transmission::run() noexcept {
  dirty_ = false;
  flush();
  // After every flush that succeeds and every request that ends, or what waits would wait for ever.
  if (std::exchange(progress_, false)) go_on();
  if (dirty_) return;  // More has become ready just now.
  update_watch();
  // The last word: whoever waits may destroy this object.
  if (finished()) std::exchange(waiter_, {}).resume();
}

bool Transmission::finished() const {
  if (state_ == State::serving || again_queued_ || !waiter_) return false;
  if (state_ == State::draining && (in_payload() || !leftover().empty())) return false;
  return in_flight_ == 0 && (dead_ || outbox_.empty());
}

void Transmission::ready(std::uint32_t epoll_events) noexcept {
  if ((epoll_events & EPOLLOUT) != 0) {
    send_blocked_ = false;
    mark_dirty();
  }
  if (wants_input()) {
    // Also on EPOLLHUP: what the client sent before it left is still to be read.
    if ((epoll_events & ~EPOLLOUT) != 0) receive();
  } else if ((epoll_events & (EPOLLHUP | EPOLLERR)) != 0) {
    if (state_ != State::ending) stop(TransmissionEnd::closed);
    lose();
  }
}

bool Transmission::wants_input() const {
  if (dead_ || starved_ || state_ == State::ending || !leftover().empty()) return false;
  // A payload that has begun is taken in any case: its client may not read before it is sent.
  return in_payload() || (state_ == State::serving && !send_blocked_);
}

void Transmission::update_watch() {
  if (dead_) return;
  // Others have their turn first.
  if (stream_.holds_more() && wants_input() && !std::exchange(again_queued_, true)) {
    context_.loop().at_next_turn(again_);
  }
  std::uint32_t wanted = (wants_input() ? EPOLLIN : 0u) | (send_blocked_ ? EPOLLOUT : 0u);
  if (wanted == watched_) return;
  watched_ = wanted;
  context_.loop().change_watch(stream_.fd(), wanted, *this);
}

void Transmission::flush() {
  if (dead_ || send_blocked_ || outbox_.empty()) return;
  Result<bool> sent = outbox_.send(stream_);
  if (!sent.ok()) {
    if (state_ != State::ending) stop(TransmissionEnd::failed);
    return lose();
  }
  if (!sent.value()) {
    send_blocked_ = true;
    return;
  }
  for (Slot* slot : sending_) retire(*slot);
  sending_.clear();
  progress_ = true;
}

// One receive a turn: of what has arrived meanwhile the next turn takes care, after the others.
void Transmission::receive() {
  NBDKIT_CHECK(leftover().empty());
  std::span<std::byte> scratch = context_.loop().scratch();
  std::array<iovec, 2> into;
  std::size_t count = 0;
  std::size_t direct = 0;
  if (partial_) {
    std::span<std::byte> rest = partial_->rest();
    // Memory that is announced costs nothing yet, so what counts is what arrives.
    direct = std::min<std::uint64_t>(rest.size(), kPayloadStepBytes);
    if (!afford(direct)) return;
    into[count++] = {rest.data(), direct};
  }
  // While draining, the bytes behind the missing rest belong to whoever serves this socket next.
  if (state_ == State::draining && !partial_) {
    into[count++] = {scratch.data(), std::min<std::size_t>(scratch.size(), skip_)};
  } else if (state_ == State::serving && !(partial_ && direct < partial_->rest().size())) {
    into[count++] = {scratch.data(), scratch.size()};
  }
  Result<std::size_t> received = stream_.receive(std::span(into.data(), count));
  if (!received.ok()) {
    if (received.error().code == std::errc::resource_unavailable_try_again) return;
    stop(TransmissionEnd::failed);
    return lose();
  }
  if (received.value() == 0) return stop(TransmissionEnd::closed);

  begun_this_turn_ = 0;
  Begins begins(ledger_, stream_.fd());
  if (!begins.allowed()) return stop(TransmissionEnd::closed);
  std::size_t placed = std::min(received.value(), direct);
  if (direct > 0) {
    partial_->got += placed;
    if (partial_->complete()) finish_partial();
  }
  std::size_t size = received.value() - placed;
  std::byte* bytes = scratch.data() - stash_size_;  // The scratch has room in front for this.
  if (stash_size_ > 0) std::memcpy(bytes, stash_.data(), stash_size_);
  size += std::exchange(stash_size_, 0);
  keep(consume({bytes, size}));
  // Nothing may be received on top of what is left, and a drain may have got what it waited for.
  if (!wants_input() || stream_.holds_more()) mark_dirty();
}

void Transmission::keep(std::span<const std::byte> bytes) {
  left_.assign(bytes.begin(), bytes.end());
  left_from_ = 0;
}

void Transmission::go_on() {
  if (starved_ || state_ == State::ending || again_queued_ || send_blocked_ || leftover().empty())
    return;
  Begins begins(ledger_, stream_.fd());
  if (!begins.allowed()) return stop(TransmissionEnd::closed);
  std::span<const std::byte> rest = consume(leftover());
  if (state_ == State::ending) return;  // stop() has thrown everything away.
  left_from_ = left_.size() - rest.size();
  if (rest.empty()) keep({});
}

void Transmission::begin_again() {
  again_queued_ = false;
  begun_this_turn_ = 0;
  progress_ = true;
  mark_dirty();
  if (stream_.holds_more() && wants_input()) receive();
}

// Takes what can be taken; what is returned has to wait.
std::span<const std::byte> Transmission::consume(std::span<const std::byte> bytes) {
  while (!bytes.empty() && state_ != State::ending) {
    if (skip_ > 0) {
      std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(skip_, bytes.size()));
      skip_ -= n;
      bytes = bytes.subspan(n);
    } else if (partial_) {
      bytes = take_partial(bytes);
    } else if (bytes.size() < header_size_) {
      std::memcpy(stash_.data(), bytes.data(), bytes.size());
      stash_size_ = bytes.size();
      return {};
    } else {
      auto header = parse(bytes);
      if (!may_begin(header, bytes.size())) return bytes;
      bytes = take_request(header, bytes);
    }
  }
  return {};
}

// Whether nothing is at its limit.
bool Transmission::may_begin(const std::optional<RequestHeader>& header, std::size_t received) {
  if (begun_this_turn_ >= kRequestsPerTurn) {
    again_queued_ = true;
    context_.loop().at_next_turn(again_);
    return false;
  }
  if (outbox_.full()) flush();
  if (send_blocked_ || state_ == State::ending) return false;
  std::uint64_t bytes = header ? payload_bytes(*header) : 0;
  bool first = in_flight_ == 0 && sending_.empty();
  // The first always may: it does not wait for other connections of the same loop.
  if (!first && !has_room(bytes)) return false;
  bool alone = header && in_flight_ > 0 && mark_of(*header) == LedgerMark::alone;
  if (alone || alone_) return false;
  if (header && !may_change(*header)) return pause();
  // Of a write that has not arrived completely, the rest counts when it comes.
  bool writes = header && header->command == Command::write;
  return afford(writes ? std::min(bytes, received - header_size_) : bytes);
}

bool Transmission::has_room(std::uint64_t bytes) const {
  if (!stocked_) return in_flight_ < kRequestsMax && bytes_in_flight_ + bytes <= kBytesInFlightMax;
  if (in_flight_ + sending_.size() >= kStockedRequestsMax) return false;
  // What is too large for the stock goes alone.
  return in_stock(bytes) ? context_.buffers().may_reserve(bytes) : bytes == 0;
}

// Whether a request with so much data has to reserve its buffer.
bool Transmission::in_stock(std::uint64_t bytes) const {
  return stocked_ && bytes > 0 && bytes <= BufferPool::kStockedSizeMax;
}

void Transmission::stock() {
  outbox_.stock();
  left_.reserve(Loop::kScratchSize + kUnreadMax);
  slots_.reserve(kStockedRequestsMax);
  unused_.reserve(kStockedRequestsMax);
  sending_.reserve(kStockedRequestsMax);
  for (std::size_t i = 0; i < kStockedRequestsMax; ++i) unused_.push_back(&make_slot());
}

std::uint64_t Transmission::bytes_held() const {
  return bytes_in_flight_ + (partial_ ? partial_->got : 0);
}

// Whether memory for so much more may be used now; otherwise it is asked again after a while.
bool Transmission::afford(std::uint64_t more) {
  return share_.grow_to(bytes_held() + more) || pause();
}

// False: what has been received waits until expired().
bool Transmission::pause() {
  if (!std::exchange(starved_, true)) {
    context_.loop().timers().arm(*this, context_.loop().now() + kBudgetPause);
  }
  mark_dirty();
  return false;
}

void Transmission::expired() noexcept {
  starved_ = false;
  progress_ = true;
  mark_dirty();
}

std::optional<RequestHeader> Transmission::parse(std::span<const std::byte> packet) const {
  if (!agreement_.extended_headers) return parse_request(packet.first<sizeof(RequestWire)>());
  return parse_extended_request(packet.first<sizeof(ExtendedRequestWire)>());
}

std::span<const std::byte> Transmission::take_request(const std::optional<RequestHeader>& header,
                                                      std::span<const std::byte> bytes) {
  std::span<const std::byte> rest = bytes.subspan(header_size_);
  if (!header) {
    context_.log().error(who_, "the client sent no valid request: closing the connection");
    stop(TransmissionEnd::failed);
    return {};
  }
  ++begun_this_turn_;
  if (header->command == Command::disconnect) {
    stop(TransmissionEnd::disconnected);
    return {};
  }
  if (has_payload(*header, agreement_.extended_headers)) return take_payload(*header, rest);
  Refusal refusal = check(*header);
  if (refusal.error == NbdError::none) {
    begin(*header, std::nullopt);
  } else {
    answer_error(*header, refusal);
  }
  return rest;
}

std::span<const std::byte> Transmission::take_payload(const RequestHeader& header,
                                                      std::span<const std::byte> rest) {
  Refusal refusal = check(header);
  if (refusal.error != NbdError::none) {
    if (header.length > kDroppedPayloadMax) {
      context_.log().error(who_, "a payload of {} bytes is too large: closing the connection",
                           header.length);
      stop(TransmissionEnd::failed);
      return {};
    }
    skip_ = header.length;
    answer_error(header, refusal);
    return rest;
  }
  BufferPool& pool = context_.buffers();
  if (rest.size() >= header.length) {
    begin(header, Payload(rest.first(header.length), pool, context_.connection()));
    return rest.subspan(header.length);
  }
  Result<Buffer> buffer = pool.get(header.length, context_.connection());
  if (!buffer.ok()) {
    skip_ = header.length;
    answer_error(header, {NbdError::no_memory, "no memory for the payload"});
    return rest;
  }
  partial_ = std::make_unique<Partial>(header, std::move(buffer).value(),
                                       in_stock(header.length) ? &pool : nullptr);
  return rest;
}

std::span<const std::byte> Transmission::take_partial(std::span<const std::byte> bytes) {
  std::span<std::byte> rest = partial_->rest();
  std::size_t n = std::min(rest.size(), bytes.size());
  std::memcpy(rest.data(), bytes.data(), n);
  partial_->got += n;
  if (partial_->complete()) finish_partial();
  return bytes.subspan(n);
}

void Transmission::finish_partial() {
  const RequestHeader header = partial_->header;
  Payload payload(std::move(partial_->buffer), context_.buffers(), context_.connection());
  partial_.reset();
  begin(header, std::move(payload));
  mark_dirty();
}

}  // namespace nbdkit
