// SPDX-License-Identifier: BSD-3-Clause
// What the engine makes of the requests of a client that it does not know. The first byte of the
// input says what was agreed upon, the second after how many receives the connection is to be moved
// away (0: never); the rest is all that the client says. Built twice: for requests as they always
// were, and with kExtended for those with extended headers.
#include <array>
#include <optional>
#include <vector>

#include "base/range.h"
#include "input_stream.h"
#include "server/export_info.h"
#include "server/transmission.h"
#include "support/test_loop.h"

namespace nbdkit {
namespace {

enum Flags : unsigned {
  kStructured = 1,
  kContexts = 2,
  kSmallPieces = 4,
  kBlockSizes = 8,
  kReadOnly = 16,
  kKernel = 32,
  kWriteThrough = 64,
  kUnread = 128,  // Whoever served before has received the beginning.
};

constexpr bool kExtended = NBDKIT_FUZZ_EXTENDED;
constexpr std::uint64_t kSize = (1 << 20) + 100;

class SilentLog final : public Log {
 public:
  SilentLog() : Log("fuzz", true) {}
  void write(LogLevel, std::string_view, std::string_view) override {}
};

constexpr BlockSize kSizes{512, 4096, 1 << 18};

// Holds nothing, but looks at what it is asked: nothing that it does not have, and no payload that
// is not there. Where it is asked decides how it answers.
class StrictDevice final : public BlockDevice {
 public:
  StrictDevice(Context& context, bool read_only)
      : BlockDevice([] {
          Properties all;
          all.size = kSize;
          all.can_write = all.can_flush = all.can_fua = all.can_trim = all.can_fast_zero = true;
          all.can_cache = all.can_extents = true;
          all.block_size = kSizes;
          return all;
        }()),
        context_(context),
        read_only_(read_only) {}

  Task<void> pread(Request request, Reply& reply) override {
    look_at(request);
    const std::uint64_t where = request.offset / 512 % 4;
    if (where == 3) {
      reply.hole(request.length);
      return Result<void>();
    }
    Result<std::span<std::byte>> bytes = reply.buffer(request.length);
    if (!bytes.ok()) return Result<void>(std::move(bytes).error());
    std::fill(bytes.value().begin(), bytes.value().end(), std::byte{1});
    return answer(where);
  }
  Task<void> pwrite(Request request, Payload& payload) override {
    look_at_change(request);
    NBDKIT_CHECK(payload.bytes().size() == request.length);
    std::uint64_t sum = 0;
    for (std::byte byte : payload.bytes()) sum += static_cast<std::uint64_t>(byte);
    return answer(sum % 3);
  }
  Task<void> flush() override { return answer(0); }
  Task<void> trim(Request request) override { return change(request); }
  Task<void> zero(Request request) override { return change(request); }
  Task<void> cache(Request request) override {
    look_at(request);
    return answer(request.offset / 512 % 4);
  }
  Task<void> extents(Request request, Extents& extents) override {
    look_at(request);
    for (std::uint64_t at = request.offset; at < request.end(); at += 5000) {
      const auto type = static_cast<ExtentType>(at / 5000 % 4);
      Result<void> added = extents.add(at, std::min<std::uint64_t>(5000, kSize - at), type);
      NBDKIT_CHECK(added.ok());
    }
    return answer(request.offset / 512 % 3);
  }

 private:
  void look_at(const Request& request) const {
    NBDKIT_CHECK(request.length > 0 && range_fits(request.offset, request.length, kSize));
  }
  void look_at_change(const Request& request) const {
    NBDKIT_CHECK(!read_only_);
    look_at(request);
  }
  Task<void> change(const Request& request) {
    look_at_change(request);
    return answer(request.offset / 512 % 4);
  }
  Task<void> answer(std::uint64_t how) {
    if (how == 1) return later();
    if (how == 2) return Result<void>(Error(std::errc::no_space_on_device, "full"));
    return Result<void>();
  }
  Task<void> later() { co_await context_.sleep(Milliseconds(1)); }

  Context& context_;
  const bool read_only_;
};

template <typename Wire>
std::optional<Wire> take(std::span<const std::byte>& bytes) {
  if (bytes.size() < sizeof(Wire)) return std::nullopt;
  Wire wire;
  std::memcpy(&wire, bytes.data(), sizeof wire);
  bytes = bytes.subspan(sizeof wire);
  return wire;
}

// Chunks say how long they are, so they can be followed without knowing the requests.
void check_chunks(std::span<const std::byte> sent) {
  using Wire = std::conditional_t<kExtended, ExtendedChunkWire, ChunkWire>;
  while (!sent.empty()) {
    // What has no data is still answered simply, without extended headers.
    std::span<const std::byte> rest = sent;
    std::optional<SimpleReplyWire> simple = take<SimpleReplyWire>(rest);
    if (!kExtended && simple && simple->magic.get() == kSimpleReplyMagic) {
      sent = rest;
      continue;
    }
    std::optional<Wire> chunk = take<Wire>(sent);
    NBDKIT_CHECK(chunk && chunk->magic.get() == Wire().magic.get());
    NBDKIT_CHECK((chunk->flags.get() & ~kChunkDone) == 0);
    const std::uint64_t length = chunk->length.get();
    NBDKIT_CHECK(length <= kPayloadMax + sizeof(OffsetWire) && length <= sent.size());
    if (chunk->type.get() == ChunkType::offset_hole) NBDKIT_CHECK(length == sizeof(HoleWire));
    sent = sent.subspan(length);
  }
}

Agreement agreement_of(unsigned flags) {
  Agreement agreement;
  agreement.extended_headers = kExtended;
  agreement.structured_replies = kExtended || (flags & kStructured) != 0;
  if (agreement.structured_replies && (flags & kContexts) != 0) {
    for (const MetaContext& context : kMetaContexts) agreement.contexts.add(context);
  }
  if ((flags & kBlockSizes) != 0) agreement.block_size = kSizes;
  agreement.read_only = (flags & kReadOnly) != 0;
  return agreement;
}

void check(std::span<const std::uint8_t> input) {
  if (input.size() < 2) return;
  const unsigned flags = input[0];
  const unsigned move_after = input[1];
  input = input.subspan(2);
  constexpr std::size_t kHeader = kExtended ? sizeof(ExtendedRequestWire) : sizeof(RequestWire);
  std::vector<std::byte> unread;
  if ((flags & kUnread) != 0) {
    auto before = std::as_bytes(input.first(std::min(input.size(), kHeader - 1)));
    unread.assign(before.begin(), before.end());
    input = input.subspan(before.size());
  }

  TestLoop loop;
  Gate gate(loop);
  SilentLog log;
  Context context(loop, gate, log, 1);
  context.kernel = (flags & kKernel) != 0;
  context.write_through = (flags & kWriteThrough) != 0;
  const Agreement agreement = agreement_of(flags);
  InputStream stream(input, (flags & kSmallPieces) != 0 ? 5 : input.size());
  Chain device(std::make_unique<StrictDevice>(context, agreement.read_only));
  Transmission transmission(context, stream, device, agreement, "fuzz");
  if (move_after > 0) stream.at(move_after - 1, [&] { transmission.drain(); });
  Result<TransmissionEnd> end = loop.run(transmission.serve(unread));
  NBDKIT_CHECK(end.ok() && transmission.unread().size() < kHeader);
  if (agreement.structured_replies) check_chunks(stream.sent());
}

}  // namespace
}  // namespace nbdkit

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nbdkit::check({data, size});
  return 0;
}
