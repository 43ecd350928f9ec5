// SPDX-License-Identifier: BSD-3-Clause
#include "server/traffic_test.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace nbdkit::traffic {
namespace {

std::uint64_t mix(std::uint64_t n) {
  n = (n ^ (n >> 30)) * 0xbf58476d1ce4e5b9u;
  n = (n ^ (n >> 27)) * 0x94d049bb133111ebu;
  return n ^ (n >> 31);
}

}  // namespace

bool is_hole(std::uint64_t offset) { return mix(offset / kRegion / 5) % 3 == 0; }
char written_at(std::uint64_t offset) { return static_cast<char>(offset % 251); }

std::uint32_t device_error(Command command, std::uint64_t offset) {
  switch (mix(offset * 8 + static_cast<std::uint64_t>(command)) % 20) {
    case 0:
      return static_cast<std::uint32_t>(NbdError::io);
    case 1:
      return static_cast<std::uint32_t>(NbdError::no_space);
    default:
      return 0;
  }
}

const std::string& disk() {
  static const std::string bytes = [] {
    std::string all(kDiskSize, '\0');
    for (std::uint64_t i = 0; i < kDiskSize; ++i) {
      if (!is_hole(i)) all[i] = static_cast<char>(mix(i / 8) >> i % 8 * 8);
    }
    return all;
  }();
  return bytes;
}

std::uint64_t random_scale(Dice& dice) {
  static constexpr std::uint64_t kScales[] = {7, 40, 1000, 20'000};
  return kScales[dice.below(std::size(kScales))];
}

CuttingStream::CuttingStream(UniqueFd socket, std::uint64_t scale, Dice& dice)
    : stream_(std::move(socket)), dice_(dice), piece_max_(scale * (dice.one_in(2) ? 1 : 20)) {}

std::vector<iovec> CuttingStream::cut(std::span<const iovec> pieces) {
  std::uint64_t left = 1 + dice_.below(piece_max_);
  std::vector<iovec> taken;
  for (const iovec& piece : pieces) {
    std::size_t length = std::min<std::uint64_t>(piece.iov_len, left);
    if (length > 0) taken.push_back({piece.iov_base, length});
    left -= length;
  }
  return taken;
}

Result<std::size_t> CuttingStream::receive(std::span<iovec> into) {
  if (dice_.one_in(8)) return std::errc::resource_unavailable_try_again;
  std::vector<iovec> pieces = cut(into);
  // The engine must never ask for nothing: the answer would look like the end of the stream.
  if (pieces.empty()) return std::errc::invalid_argument;
  Result<std::size_t> received = stream_.receive(pieces);
  if (received.ok()) received_ += received.value();
  return received;
}

Result<std::size_t> CuttingStream::send(std::span<const iovec> from) {
  if (broken_) return std::errc::broken_pipe;
  if (dice_.one_in(6)) return std::errc::resource_unavailable_try_again;
  std::vector<iovec> pieces = cut(from);
  return stream_.send(pieces);
}

// Memory that is lent until it is given back.
class SlowDevice::Loan final : public Job {
 public:
  explicit Loan(std::size_t& lent) : lent_(lent) { ++lent_; }
  void run() noexcept override {
    --lent_;
    delete this;
  }

 private:
  ~Loan() = default;
  std::size_t& lent_;
};

SlowDevice::SlowDevice(Context& context, Dice& dice)
    : BlockDevice([] {
        Properties all;
        all.size = kDiskSize;
        all.can_write = all.can_flush = all.can_fua = all.can_trim = all.can_fast_zero = true;
        all.can_cache = all.can_extents = true;
        return all;
      }()),
      context_(context),
      dice_(dice),
      slowness_(3 + dice.below(30)) {}

Task<void> SlowDevice::act(Command command, std::uint64_t offset) {
  std::uint32_t error = device_error(command, offset);
  if (at_once()) return error == 0 ? Result<void>() : Result<void>(static_cast<std::errc>(error));
  return act_later(command, offset);
}

Task<void> SlowDevice::act_later(Command command, std::uint64_t offset) {
  most_under_way_ = std::max(most_under_way_, ++under_way_);
  Nanoseconds delay(dice_.below(3'000'000));
  Result<void> slept =
      co_await context_.sleep(dice_.one_in(4) ? Nanoseconds(0) : delay).as_result();
  --under_way_;
  if (!slept.ok()) co_await fail(std::move(slept).error());
  std::uint32_t error = device_error(command, offset);
  if (error != 0) co_await fail(static_cast<std::errc>(error));
}

Task<void> SlowDevice::pread(Request request, Reply& reply) {
  if (at_once() && device_error(Command::read, request.offset) == 0) return fill(request, reply);
  return read_later(request, reply);
}

Task<void> SlowDevice::read_later(Request request, Reply& reply) {
  co_await act_later(Command::read, request.offset);
  Result<void> filled = fill(request, reply);
  if (!filled.ok()) co_await fail(std::move(filled).error());
}

Result<void> SlowDevice::fill(Request request, Reply& reply) {
  while (request.length > 0) {
    std::uint64_t end = (request.offset / kRegion + 1) * kRegion;
    std::uint64_t length = std::min(request.length, end - request.offset);
    bool hole = is_hole(request.offset) && !dice_.one_in(3);
    if (!hole && dice_.one_in(2)) length = std::min<std::uint64_t>(request.length, 100'000);
    std::span<const std::byte> data =
        std::as_bytes(std::span(disk())).subspan(request.offset, length);
    if (hole) {
      reply.hole(length);
    } else if (dice_.one_in(2)) {
      reply.lend(data, dice_.one_in(2) ? new Loan(lent_) : nullptr);
    } else {
      Result<std::span<std::byte>> into = reply.buffer(length);
      if (!into.ok()) return std::move(into).error();
      std::memcpy(into.value().data(), data.data(), length);
    }
    request = request.part(length, request.length - length);
  }
  return {};
}

Task<void> SlowDevice::pwrite(Request request, Payload& payload) {
  if (at_once()) {
    for (std::size_t i = 0; i < request.length; ++i) {
      if (static_cast<char>(payload.bytes()[i]) != written_at(request.offset + i)) {
        return Result<void>(std::errc::owner_dead);
      }
    }
    std::uint32_t error = device_error(Command::write, request.offset);
    return error == 0 ? Result<void>() : Result<void>(static_cast<std::errc>(error));
  }
  return write_later(request, payload);
}

// A payload that is not what the client sent ends with an error that it does not expect.
Task<void> SlowDevice::write_later(Request request, Payload& payload) {
  co_await act_later(Command::write, request.offset);
  std::span<const std::byte> bytes = payload.bytes();
  bool whole = bytes.size() == request.length;
  for (std::size_t i = 0; whole && i < bytes.size(); ++i) {
    whole = static_cast<char>(bytes[i]) == written_at(request.offset + i);
  }
  if (!whole) co_await fail(std::errc::owner_dead);
}

Task<void> SlowDevice::extents(Request request, Extents& extents) {
  return extents_later(request, extents);
}

Task<void> SlowDevice::extents_later(Request request, Extents& extents) {
  co_await act(Command::block_status, request.offset);
  std::uint64_t at = request.offset / kRegion * kRegion;
  for (; at < request.end(); at += kRegion) {
    ExtentType type = is_hole(at) ? ExtentType::hole_and_zero : ExtentType::data;
    Result<void> added = extents.add(at, kRegion, type);
    if (!added.ok()) co_await fail(std::move(added).error());
  }
}

Client::Client(Loop& loop, UniqueFd socket, Agreement agreement, std::uint64_t scale, Dice& dice)
    : loop_(loop),
      socket_(std::move(socket)),
      agreement_(agreement),
      dice_(dice),
      scale_(scale),
      piece_max_(scale * (dice.one_in(2) ? 1 : 20)),
      reads_lazily_(dice.one_in(2)),
      header_size_(agreement.extended_headers ? sizeof(ExtendedRequestWire) : sizeof(RequestWire)) {
}

RequestHeader Client::random_request() {
  static constexpr Command kCommands[] = {
      Command::read,  Command::read, Command::read,         Command::write, Command::write,
      Command::flush, Command::trim, Command::write_zeroes, Command::cache, Command::block_status};
  RequestHeader header{};
  header.command = kCommands[dice_.below(std::size(kCommands))];
  if (dice_.one_in(40)) header.command = static_cast<Command>(8 + dice_.below(100));
  header.cookie = static_cast<Cookie>(asked_.size());
  if (header.command != Command::flush || dice_.one_in(10)) {
    // In scale with what goes through at a time, or a test would take for ever.
    std::uint64_t length_max = scale_ * 30;
    header.length = static_cast<std::uint32_t>(1 + dice_.below(1 + dice_.below(length_max)));
    header.offset = dice_.below(kDiskSize - header.length + (dice_.one_in(20) ? 100'000 : 1));
  }
  if (dice_.one_in(40)) header.length = 0;
  if (agreement_.extended_headers && header.command != Command::write && dice_.one_in(30)) {
    header.length = (std::uint64_t{1} << 32) + dice_.below(std::uint64_t{1} << 40);
  }
  if (dice_.one_in(60)) header.offset = ~std::uint64_t{0} - dice_.below(10);
  if (dice_.one_in(5)) header.flags = static_cast<std::uint16_t>(1u << dice_.below(5));
  bool with_payload = agreement_.extended_headers && header.length <= kDiskSize &&
                      (header.command == Command::write) != dice_.one_in(60);
  if (with_payload) header.flags |= command_flag::kPayloadLength;
  return header;
}

bool Client::has_payload(const RequestHeader& header) const {
  if (header.command == Command::write) return true;  // Some clients do not set the flag.
  return agreement_.extended_headers && (header.flags & command_flag::kPayloadLength) != 0;
}

// Of a range that ends beyond the disk its beginning is read, by a client that can be told so.
std::uint64_t Client::there(const RequestHeader& header) const {
  bool asks = header.command == Command::read || header.command == Command::block_status;
  bool begins = asks && agreement_.structured_replies && header.offset < kDiskSize;
  return begins ? std::min(header.length, kDiskSize - header.offset) : header.length;
}

// What is said of errors in the protocol and, where it says nothing, by nbdkit.
std::uint32_t Client::right_answer(const RequestHeader& header) const {
  if (has_payload(header) && header.command != Command::write) return 22;
  bool writes = header.command == Command::write || header.command == Command::trim ||
                header.command == Command::write_zeroes;
  if (writes && agreement_.read_only) return 1;
  if (header.command > Command::block_status) return 22;
  if (header.command == Command::block_status && agreement_.contexts.empty()) return 22;
  bool flush = header.command == Command::flush;
  if (flush && (header.offset != 0 || header.length != 0)) return 22;
  bool outside =
      header.length == 0 || header.offset > kDiskSize || there(header) > kDiskSize - header.offset;
  if (!flush && outside) return writes && header.command != Command::trim ? 28 : 22;
  std::uint16_t flags = agreement_.read_only ? 0 : command_flag::kFua;
  if (header.command == Command::read && agreement_.structured_replies) {
    flags |= command_flag::kDontFragment;
  }
  if (header.command == Command::block_status) flags |= command_flag::kReqOne;
  if (header.command == Command::write_zeroes) {
    flags |= command_flag::kNoHole | command_flag::kFastZero;
  }
  if (agreement_.extended_headers) flags |= command_flag::kPayloadLength;
  if ((header.flags & ~flags) != 0) return 22;
  if (header.command == Command::read && header.length > kPayloadMax) return 12;
  return device_error(header.command, header.offset);
}

void Client::add_requests(std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    RequestHeader header = random_request();
    add_header(header);
    for (std::uint64_t k = 0; has_payload(header) && k < header.length; ++k) {
      out_ += written_at(header.offset + k);
    }
    Asked asked{header, right_answer(header), header.offset, there(header)};
    asked.partial = asked.error == 0 && asked.there < header.length;
    if (asked.partial) asked.error = 22;
    asked.contexts = agreement_.contexts;
    asked_.push_back(asked);
  }
}

void Client::add_header(const RequestHeader& header) {
  auto add = [this](const auto& wire) {
    add_bytes({reinterpret_cast<const char*>(&wire), sizeof wire});
  };
  if (agreement_.extended_headers) {
    add(to_extended_wire(header));
  } else {
    add(to_wire(header));
  }
}

void Client::add_bytes(std::string_view bytes) {
  boundaries_.push_back(out_.size());
  out_ += bytes;
}

void Client::cut_short() {
  // Whoever refuses a write need not wait for what it was to write.
  std::size_t length = out_.size() - boundaries_.back();
  if (asked_.back().error != 0) length = std::min(length, header_size_);
  out_.resize(boundaries_.back() + dice_.below(length));
  asked_.pop_back();
}

bool Client::is_boundary(std::uint64_t at) const {
  return at == out_.size() || std::binary_search(boundaries_.begin(), boundaries_.end(), at);
}

void Client::tick_at(Nanoseconds delay) { loop_.timers().arm(*this, loop_.now() + delay); }

void Client::expired() noexcept {
  if (dice_.below(3) != 0) send_some();
  // A lazy one lets the replies pile up.
  if (!reads_lazily_ || dice_.one_in(6)) receive_some(1 + dice_.below(4 * piece_max_));
  if (sent_ < out_.size() || answered_ < asked_.size()) {
    tick_at(Nanoseconds(dice_.below(100'000)));
  }
}

void Client::send_some() {
  std::size_t length = std::min<std::size_t>(out_.size() - sent_, 1 + dice_.below(piece_max_));
  ssize_t n = ::send(socket_.get(), out_.data() + sent_, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n > 0) sent_ += static_cast<std::size_t>(n);
  if (sent_ == out_.size() && hangs_up_) ::shutdown(socket_.get(), SHUT_WR);
}

void Client::receive_some(std::size_t most) {
  std::array<char, 65'536> buffer;
  ssize_t n = ::recv(socket_.get(), buffer.data(), std::min(most, buffer.size()), MSG_DONTWAIT);
  if (n > 0) in_.append(buffer.data(), static_cast<std::size_t>(n));
  std::size_t done = 0;
  while (std::size_t taken = take(std::string_view(in_).substr(done))) done += taken;
  in_.erase(0, done);
}

void Client::vanish() {
  socket_.reset();
  out_.resize(sent_);
}

void Client::take_the_rest() {
  char more;
  while (::recv(socket_.get(), &more, 1, MSG_PEEK | MSG_DONTWAIT) > 0) receive_some(1 << 20);
}

}  // namespace nbdkit::traffic
