// SPDX-License-Identifier: BSD-3-Clause
// What a client makes of the handshake of a server that it does not know. The first byte of the
// input says what the client wants: 1 structured replies, extended headers and metadata, 2 the list
// of exports instead of one of them, 4 small pieces. The rest is all that the server says.
#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/check.h"
#include "client/handshake.h"

namespace nbdkit {
namespace {

enum Flags : unsigned { kChunks = 1, kList = 2, kSmallPieces = 4 };

// Says what is in the input, then hangs up, and listens to everything.
class InputStream final : public ByteStream {
 public:
  InputStream(std::span<const std::uint8_t> input, std::size_t piece_max)
      : input_(input), piece_max_(piece_max) {}

  Result<std::size_t> receive(std::span<iovec> into) override {
    std::size_t length = std::min({into[0].iov_len, input_.size(), piece_max_});
    if (length > 0) std::memcpy(into[0].iov_base, input_.data(), length);
    input_ = input_.subspan(length);
    return length;
  }
  Result<std::size_t> send(std::span<const iovec> from) override {
    return std::min(from[0].iov_len, piece_max_);
  }
  int fd() const override { return -1; }

 private:
  std::span<const std::uint8_t> input_;
  const std::size_t piece_max_;
};

// What is agreed upon keeps to the limits, whoever the server is.
void check_agreement(const ClientAgreement& agreement) {
  NBDKIT_CHECK(agreement.size >> 63 == 0);
  NBDKIT_CHECK(agreement.has(transmission_flag::kHasFlags));
  NBDKIT_CHECK(!agreement.extended_headers || agreement.structured_replies);
  NBDKIT_CHECK(!agreement.base_allocation || agreement.structured_replies);
  NBDKIT_CHECK(agreement.canonical_name.size() <= kStringMax);
  NBDKIT_CHECK(agreement.description.size() <= kStringMax);
  if (!agreement.block_sizes) return;
  NBDKIT_CHECK(agreement.block_sizes->minimum > 0);
  NBDKIT_CHECK(agreement.block_sizes->maximum >= agreement.block_sizes->preferred);
}

void check_list(const std::vector<ListAnswer>& exports) {
  NBDKIT_CHECK(exports.size() <= ClientHandshake::kExportsMax);
  for (const ListAnswer& one : exports) {
    NBDKIT_CHECK(one.name.size() <= kStringMax && one.description.size() <= kStringMax);
  }
}

void check(std::span<const std::uint8_t> input) {
  if (input.empty()) return;
  const unsigned flags = input[0];
  WorkerPool workers;
  Loop loop(workers);
  Gate gate(loop);
  InputStream stream(input.subspan(1), (flags & kSmallPieces) != 0 ? 3 : input.size());
  HandshakeWishes wishes;
  wishes.export_name = "disk";
  wishes.chunks = (flags & kChunks) != 0;
  ClientHandshake handshake(loop, gate, stream, wishes);
  // Neither ever waits, as the stream always has something to say.
  if ((flags & kList) != 0) {
    Task<std::vector<ListAnswer>> task = handshake.list_exports();
    NBDKIT_CHECK(task.done());
    Result<std::vector<ListAnswer>> exports = task.take();
    if (exports.ok()) check_list(exports.value());
  } else {
    Task<ClientAgreement> task = handshake.enter_export();
    NBDKIT_CHECK(task.done());
    Result<ClientAgreement> agreement = task.take();
    if (agreement.ok()) check_agreement(agreement.value());
  }
}

}  // namespace
}  // namespace nbdkit

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nbdkit::check({data, size});
  return 0;
}
