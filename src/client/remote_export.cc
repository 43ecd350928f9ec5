// SPDX-License-Identifier: BSD-3-Clause
#include "client/remote_export.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/range.h"

namespace nbdkit {
namespace {

constexpr std::uint32_t kNoLimit = 0xffffffff;
// The last multiple of every block size that a length of 32 bits can say.
constexpr std::uint64_t kShortLengthMax = (std::uint64_t{1} << 32) - 64 * 1024;

bool is_shutting_down(const Error& error) {
  return error.code == static_cast<std::errc>(ESHUTDOWN);
}

// Whether only a flush makes it durable.
bool is_unflushed_write(const RequestHeader& header) {
  bool writes = header.command == Command::write || header.command == Command::write_zeroes;
  return writes && (header.flags & command_flag::kFua) == 0;
}

}  // namespace

RemoteExport::Ask RemoteExport::Ask::part(std::uint64_t done, std::uint64_t length) const {
  Ask part = *this;
  part.header.offset += done;
  part.header.length = length;
  if (!into.empty()) part.into = into.subspan(done, length);
  if (!from.empty()) part.from = from.subspan(done, length);
  return part;
}

RemoteExport::RemoteExport(Loop& loop, Gate& gate, Log& log, RemoteOptions options,
                           LostWrites& lost)
    : Interruptible(gate),
      loop_(loop),
      log_(log),
      options_(std::move(options)),
      lost_(lost),
      gate_(loop) {}

Task<void> RemoteExport::open() {
  ClientSession session;
  for (std::uint32_t left = options_.retries;; --left) {
    Result<ClientSession> connected = co_await connect_session(loop_, gate_, options_).as_result();
    if (connected.ok()) {
      session = std::move(connected).value();
      break;
    }
    if (left == 0) co_await fail(std::move(connected).error());
    co_await loop_.sleep(kRetryDelay, gate_);
  }
  agreement_ = session.agreement;
  settle_limits();
  Result<void> added = add_line(std::move(session));
  if (!added.ok()) co_await fail(std::move(added).error());
  if (agreement_.has(transmission_flag::kMultiConn)) co_await open_more();
}

// A server may allow fewer connections than it says.
Task<void> RemoteExport::open_more() {
  while (lines_.size() < options_.connections) {
    Result<ClientSession> session = co_await connect_session(loop_, gate_, options_).as_result();
    if (!session.ok() || !session.value().agreement.is_same_export(agreement_)) {
      log_.warning("nbd", "{}: {} connections instead of {}", to_string(options_.address),
                   lines_.size(), options_.connections);
      co_return;
    }
    Result<void> added = add_line(std::move(session).value());
    if (!added.ok()) co_await fail(std::move(added).error());
  }
}

Result<void> RemoteExport::add_line(ClientSession session) {
  auto lost = [this] {
    if (written_ != flushed_) note_lost_writes();
  };
  auto line = std::make_unique<RemoteLine>(loop_, gate_, log_, options_, losses_, lost);
  NBDKIT_TRY(line->start(std::move(session)));
  lines_.push_back(std::move(line));
  return {};
}

void RemoteExport::settle_limits() {
  if (agreement_.block_sizes) {
    const ExportAnswer::BlockSizes& sizes = *agreement_.block_sizes;
    payload_max_ = round_down(std::min<std::uint64_t>(sizes.maximum, kPayloadMax), sizes.minimum);
    effect_max_ = sizes.maximum == kNoLimit ? kShortLengthMax : sizes.maximum;
  } else {
    effect_max_ = kShortLengthMax;
  }
  if (agreement_.extended_headers) effect_max_ = std::numeric_limits<std::uint64_t>::max();
}

void RemoteExport::interrupt() noexcept {
  for (auto& line : lines_) line->give_up(kEndPatience);
}

Task<void> RemoteExport::close() {
  for (auto& line : lines_) line->give_up(kEndPatience);
  co_await gate_.drained();
  for (auto& line : lines_) co_await line->close();
  lines_.clear();
}

// The one with the least to do; a line that is down only when all are.
RemoteLine& RemoteExport::pick() {
  RemoteLine* best = lines_.front().get();
  if (lines_.size() == 1) return *best;
  for (auto& line : lines_) {
    if (!line->alive()) continue;
    if (!best->alive() || line->connection()->calls() < best->connection()->calls()) {
      best = line.get();
    }
  }
  return *best;
}

void RemoteExport::note_lost_writes() {
  flushed_ = written_;
  if (options_.keeps_unflushed || !agreement_.has(transmission_flag::kFlush)) return;
  ++lost_.times;
}

Task<void> RemoteExport::ask_once(Ask ask) {
  if (!gate_.enter()) co_await fail(std::errc::operation_canceled);
  Gate::Pass pass(gate_);
  std::uint64_t seen = 0;
  for (int left = kTriesMax; left > 0;) {
    RemoteLine& line = pick();
    if (!line.alive()) co_await line.until_up();
    const std::uint64_t losses = losses_;
    ClientConnection::Call call(*line.connection(), ask.header);
    call.into = ask.into;
    call.payload = ask.from;
    call.extents = ask.extents;
    Result<void> answered = co_await call;
    if (answered.ok()) {
      if (!is_unflushed_write(ask.header)) co_return;
      ++written_;
      // Lost between the answer and this line: whoever counted then did not know of this one.
      if (losses != losses_) note_lost_writes();
      co_return;
    }
    bool lost = answered.error().code == std::errc::connection_reset ||
                (is_shutting_down(answered.error()) && line.retire());
    if (!lost) co_await fail(std::move(answered).error());
    // One death of the server ends all lines, and this request may meet each of them.
    if (line.losses_before() >= seen) --left;
    seen = losses_;
    if (ask.extents != nullptr) ask.extents->clear();
  }
  std::string why = fmt::format("{}: the server has hung up {} times on the same request",
                                to_string(options_.address), static_cast<int>(kTriesMax));
  co_await fail(Error(std::errc::io_error, std::move(why)));
}

Task<void> RemoteExport::ask_in_pieces(Ask ask, std::uint64_t length_max) {
  for (std::uint64_t done = 0; done < ask.header.length;) {
    std::uint64_t length = std::min(length_max, ask.header.length - done);
    Ask part = ask.part(done, length);
    co_await ask_once(part);
    done += length;
  }
}

Task<void> RemoteExport::do_all(Ask ask, std::uint64_t length_max) {
  return ask.header.length <= length_max ? ask_once(ask) : ask_in_pieces(ask, length_max);
}

Task<void> RemoteExport::read(std::uint64_t offset, std::span<std::byte> into) {
  Ask ask(Command::read, 0, offset, into.size());
  ask.into = into;
  return do_all(ask, payload_max_);
}

Task<void> RemoteExport::write(std::uint64_t offset, std::span<const std::byte> from,
                               std::uint16_t flags) {
  Ask ask(Command::write, flags, offset, from.size());
  ask.from = from;
  return do_all(ask, payload_max_);
}

Task<void> RemoteExport::flush(std::uint64_t& told) {
  const std::uint64_t written = written_;
  co_await ask_once(Ask(Command::flush, 0, 0, 0));
  flushed_ = std::max(flushed_, written);
  const std::uint64_t lost = times_lost();
  if (std::exchange(told, lost) == lost) co_return;
  co_await fail(Error(std::errc::io_error,
                      fmt::format("{}: the connection was lost; what was written before and not "
                                  "flushed may be lost as well",
                                  to_string(options_.address))));
}

Task<void> RemoteExport::trim(std::uint64_t offset, std::uint64_t length, std::uint16_t flags) {
  return do_all(Ask(Command::trim, flags, offset, length), effect_max_);
}

Task<void> RemoteExport::zero(std::uint64_t offset, std::uint64_t length, std::uint16_t flags) {
  return do_all(Ask(Command::write_zeroes, flags, offset, length), effect_max_);
}

Task<void> RemoteExport::cache(std::uint64_t offset, std::uint64_t length) {
  return do_all(Ask(Command::cache, 0, offset, length), effect_max_);
}

// An answer about less than what was asked is an answer, too.
Task<void> RemoteExport::extents(std::uint64_t offset, std::uint64_t length, std::uint16_t flags,
                                 std::vector<StatusExtent>& into) {
  Ask ask(Command::block_status, flags, offset, std::min(length, effect_max_));
  ask.extents = &into;
  return ask_once(ask);
}

}  // namespace nbdkit
