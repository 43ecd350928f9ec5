// SPDX-License-Identifier: BSD-3-Clause
// RemoteExport: an export of another server as something to read and write, over one connection or
// several, which are made again when they are lost.
//
// What is sent again, and when. A request whose connection died is sent again on another one, at
// most kTriesMax times, and only
//  - after the old socket was shut down and closed, and what the kernel still had of it discarded;
//  - when the export still has the same size, flags and block sizes.
// Every request may be: it says which bytes shall be where, not how to change them. But a server
// that lives on may still carry out what it had received, even after the same request was answered
// on the new connection; whoever cannot exclude that of a server sets reconnect_max to 0.
//
// What is lost with a server that dies. Writes that it has answered may be gone unless they were
// flushed, and it looks the same when it is back. Unless options.keeps_unflushed the next flush
// then fails, once, as Linux reports what it could not write back.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "async/gate.h"
#include "async/loop.h"
#include "base/log.h"
#include "client/agreement.h"
#include "client/remote_line.h"
#include "client/remote_options.h"

namespace nbdkit {

// How often answered writes may have been lost: of all who have the same data, because a flush
// speaks for all of them.
struct LostWrites {
  std::atomic<std::uint64_t> times{0};
};

// One loop's; its thread only.
class RemoteExport final : private Gate::Interruptible {
 public:
  static constexpr int kTriesMax = 3;  // then it is the request that kills the server
  static constexpr std::uint64_t kPayloadMax = 64u << 20;
  // What every server takes that says nothing (NBD protocol, "Block size constraints").
  static constexpr std::uint64_t kPayloadDefault = 32u << 20;
  static constexpr Seconds kEndPatience{10};
  static constexpr Seconds kRetryDelay{1};

  // All but the options outlives it. When `gate` closes, nobody wants the answers any more.
  RemoteExport(Loop& loop, Gate& gate, Log& log, RemoteOptions options, LostWrites& lost);
  virtual ~RemoteExport() = default;

  // First. The Error says what is wrong with which address.
  Task<void> open();
  // Last. Waits for what is under way.
  Task<void> close();

  const ClientAgreement& agreement() const { return agreement_; }
  std::uint64_t times_lost() const { return lost_.times.load(); }  // any thread

  // `into` and `from` stay where they are until the Task ends. Flags are command_flag; a request
  // that is too long for the server becomes several.
  Task<void> read(std::uint64_t offset, std::span<std::byte> into);
  Task<void> write(std::uint64_t offset, std::span<const std::byte> from, std::uint16_t flags);
  // `told`: of how many losses of writes the caller knows. When there were more it fails, and
  // knows.
  Task<void> flush(std::uint64_t& told);
  Task<void> trim(std::uint64_t offset, std::uint64_t length, std::uint16_t flags);
  Task<void> zero(std::uint64_t offset, std::uint64_t length, std::uint16_t flags);
  Task<void> cache(std::uint64_t offset, std::uint64_t length);
  // At least one extent from `offset` on.
  Task<void> extents(std::uint64_t offset, std::uint64_t length, std::uint16_t flags,
                     std::vector<StatusExtent>& into);

 private:
  // One request and what it is about.
  class Ask {
   public:
    Ask(Command command, std::uint16_t flags, std::uint64_t offset, std::uint64_t length)
        : header{command, flags, Cookie{}, offset, length} {}

    Ask part(std::uint64_t done, std::uint64_t length) const;

    RequestHeader header;
    std::span<std::byte> into{};
    std::span<const std::byte> from{};
    std::vector<StatusExtent>* extents = nullptr;
  };

  void interrupt() noexcept override;
  void settle_limits();
  RemoteLine& pick();
  Task<void> open_more();
  Result<void> add_line(ClientSession session);
  Task<void> do_all(Ask ask, std::uint64_t length_max);
  Task<void> ask_once(Ask ask);
  Task<void> ask_in_pieces(Ask ask, std::uint64_t length_max);
  void note_lost_writes();

  Loop& loop_;
  Log& log_;
  const RemoteOptions options_;
  LostWrites& lost_;
  Gate gate_;  // of what is under way here
  std::vector<std::unique_ptr<RemoteLine>> lines_;
  ClientAgreement agreement_;
  std::uint64_t payload_max_ = kPayloadDefault;
  std::uint64_t effect_max_ = 0;  // bytes that a request without payload may be about

  std::uint64_t losses_ = 0;   // of connections
  std::uint64_t written_ = 0;  // writes answered that only a flush makes durable
  std::uint64_t flushed_ = 0;  // how many of them are
};

}  // namespace nbdkit
