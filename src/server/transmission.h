// SPDX-License-Identifier: BSD-3-Clause
// Transmission: the engine. Turns the bytes of one connection into requests on a device, and their
// results into replies, many at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "async/loop.h"
#include "async/outbox.h"
#include "async/stream.h"
#include "base/log.h"
#include "block/context.h"
#include "block/device.h"
#include "block/request_figures.h"
#include "proto/errors.h"
#include "proto/transmission.h"
#include "server/agreement.h"
#include "server/payload_budget.h"

namespace nbdkit {

// How a transmission came to its end.
enum class TransmissionEnd {
  disconnected,  // the client said so
  closed,        // the client left without a word
  failed,        // the socket failed, or the client broke the protocol
  drained,       // drain() was asked for
};

// One connection's, on its loop. Not moved while it runs.
class Transmission final : private Watcher, private Job, private Timer {
 public:
  static constexpr std::size_t kRequestsMax = 256;                 // under way at once
  static constexpr std::uint64_t kBytesInFlightMax = 64ull << 20;  // one request always may
  // The same with Context::stocked: as many as Linux's driver has under way on one connection.
  static constexpr std::size_t kStockedRequestsMax = Loop::kStockedRequests;
  static constexpr std::size_t kRequestsPerTurn = 512;             // then others have their turn
  static constexpr std::uint32_t kDroppedPayloadMax = 128u << 20;  // of a write that is refused
  static constexpr std::uint64_t kPayloadStepBytes = 1u << 20;  // of a large one, received at once
  // How long to wait until the budget is asked again.
  static constexpr Milliseconds kBudgetPause{5};

  // All of it outlives the transmission. `who` stands before its lines in the log; without
  // `budget` only the limits above hold.
  Transmission(Context& context, ByteStream& stream, const Chain& device, Agreement agreement,
               std::string_view who, PayloadBudget* budget = nullptr);
  ~Transmission();

  // `unread` was received by whoever served this socket before (unread() there).
  static constexpr std::size_t kUnreadMax = sizeof(ExtendedRequestWire) - 1;

  // Serves until the client leaves or drain() is called. Nothing is under way when it ends, and
  // what was answered has been sent unless the socket failed.
  Task<TransmissionEnd> serve(std::span<const std::byte> unread = {});

  // Stops at the boundary of a request: receives only the missing rest of a payload that has begun,
  // finishes every request that has been received and lets serve() end.
  void drain();
  // Takes drain() back. False when serve() is ending already.
  bool go_on_serving();
  // Stops at once: nothing more is received or sent; serve() ends when the device has answered.
  void abandon();

  // After serve() ended with `drained`: the beginning of a request, at most kUnreadMax bytes.
  std::span<const std::byte> unread() const { return std::span(stash_).first(stash_size_); }

  // What has been answered, and what is under way. Times are those of the loop's turns: what is
  // answered in the turn in which it was received took none.
  RequestFigures figures() const;

 private:
  struct Slot;
  struct Partial;

  enum class State { serving, draining, ending };

  // Takes up again what fairness has cut short in the turn before.
  class Again final : public Job {
   public:
    explicit Again(Transmission& transmission) : transmission_(transmission) {}
    void run() noexcept override { transmission_.begin_again(); }

   private:
    Transmission& transmission_;
  };

  // Job, at the end of a turn: sends what is ready and goes on with what waited for that.
  void run() noexcept override;
  // Timer: there may be room in the budget again.
  void expired() noexcept override;
  // Watcher.
  void ready(std::uint32_t epoll_events) noexcept override;

  void receive();
  std::span<const std::byte> leftover() const { return std::span(left_).subspan(left_from_); }
  std::span<const std::byte> consume(std::span<const std::byte> bytes);
  std::span<const std::byte> take_request(const std::optional<RequestHeader>& header,
                                          std::span<const std::byte> bytes);
  std::optional<RequestHeader> parse(std::span<const std::byte> packet) const;
  std::span<const std::byte> take_payload(const RequestHeader& header,
                                          std::span<const std::byte> rest);
  std::span<const std::byte> take_partial(std::span<const std::byte> bytes);
  void finish_partial();
  // Of `received` bytes, which begin with the header; null when it is none.
  bool may_begin(const std::optional<RequestHeader>& header, std::size_t received);
  bool has_room(std::uint64_t bytes) const;
  bool in_stock(std::uint64_t bytes) const;
  void stock();
  std::uint64_t bytes_held() const;
  bool afford(std::uint64_t more);
  bool pause();
  bool may_change(const RequestHeader& header) const;
  void keep(std::span<const std::byte> bytes);
  void go_on();
  void begin_again();

  // What is wrong with a request, in the protocol's number and a person's words.
  struct Refusal {
    NbdError error = NbdError::none;
    std::string_view why = {};
  };
  Refusal check(const RequestHeader& header) const;
  Refusal check_range(const RequestHeader& header) const;
  Refusal check_block_size(const RequestHeader& header) const;
  std::uint64_t served_length(const RequestHeader& header) const;
  bool serves(Command command) const;
  bool flags_fit(const RequestHeader& header) const;
  void begin(const RequestHeader& header, std::optional<Payload> payload);
  Task<void> dispatch(Slot& slot);
  void complete(Slot& slot, Result<void> result);
  Slot& make_slot();
  Slot& take_slot();
  void retire(Slot& slot);
  void count(Slot& slot, bool failed);

  void answer(Slot& slot, const Result<void>& result);
  void answer_error(const RequestHeader& header, Refusal refusal);
  void answer_error_at(const RequestHeader& header, std::uint64_t offset);
  void answer_read(const Slot& slot);
  void answer_block_status(const Slot& slot);
  void add_status(const Slot& slot, std::uint16_t flags, const MetaContext& context,
                  std::span<const Extent> extents);
  void add_chunk(const RequestHeader& header, std::uint16_t flags, ChunkType type,
                 std::uint64_t length);
  void add_error(Refusal refusal);

  void mark_dirty();
  void flush();
  bool in_payload() const { return partial_ || skip_ > 0; }
  bool wants_input() const;
  bool note(Slot& slot);
  std::optional<LedgerMark> mark_of(const RequestHeader& header) const;
  void update_watch();
  void stop(TransmissionEnd end);
  void lose();
  bool finished() const;

  Context& context_;
  ByteStream& stream_;
  const Chain& device_;
  const Agreement agreement_;
  const std::string who_;
  const bool can_write_;
  const bool writes_through_;
  const bool stocked_;
  const std::size_t header_size_;  // of a request

  State state_ = State::serving;
  TransmissionEnd end_ = TransmissionEnd::closed;
  std::coroutine_handle<> waiter_;
  bool dirty_ = false;  // in the loop's list for the end of this turn
  Again again_{*this};
  bool again_queued_ = false;
  bool send_blocked_ = false;
  bool dead_ = false;  // the socket is of no use any more
  std::uint32_t watched_ = 0;

  std::array<std::byte, kUnreadMax> stash_;  // the beginning of a request
  std::size_t stash_size_ = 0;
  std::vector<std::byte> left_;       // received but not begun: something is at its limit
  std::size_t left_from_ = 0;         // what of it is still to do
  bool progress_ = false;             // something has left its limit since we tried last
  std::unique_ptr<Partial> partial_;  // a write whose payload is still arriving
  std::uint64_t skip_ = 0;            // what is still to come of a refused write's payload
  std::size_t begun_this_turn_ = 0;

  RequestLedger::Lease ledger_;  // of a kernel's requests
  bool alone_ = false;           // what is under way is to be without company

  RequestFigures figures_;  // but for what is under way
  std::size_t in_flight_ = 0;
  std::uint64_t bytes_in_flight_ = 0;
  PayloadShare share_;
  // The budget is used up, or a range is not free: nothing is received until expired().
  bool starved_ = false;
  Outbox outbox_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<Slot*> unused_;
  std::vector<Slot*> sending_;  // hold what the outbox refers to
};

}  // namespace nbdkit
