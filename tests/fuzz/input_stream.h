// SPDX-License-Identifier: BSD-3-Clause
// InputStream: a peer that says what is in a fuzzer's input and then hangs up. It is always ready,
// so nobody ever waits for it.
#pragma once

#include <sys/eventfd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <vector>

#include "async/stream.h"
#include "base/check.h"

namespace nbdkit {

class InputStream final : public ByteStream {
 public:
  InputStream(std::span<const std::uint8_t> input, std::size_t piece_max)
      : input_(input), piece_max_(std::max<std::size_t>(piece_max, 1)) {}

  Result<std::size_t> receive(std::span<iovec> into) override {
    std::size_t length = std::min({into[0].iov_len, input_.size(), piece_max_});
    if (length > 0) std::memcpy(into[0].iov_base, input_.data(), length);
    input_ = input_.subspan(length);
    if (before_ && countdown_-- == 0) before_();
    return length;
  }

  // Everything is read, so that the sanitizer sees what is not there.
  Result<std::size_t> send(std::span<const iovec> from) override {
    std::size_t left = piece_max_ * 16;
    std::size_t before = sent_.size();
    for (const iovec& piece : from) {
      std::size_t length = std::min(piece.iov_len, left);
      const auto* bytes = static_cast<const std::byte*>(piece.iov_base);
      sent_.insert(sent_.end(), bytes, bytes + length);
      left -= length;
    }
    return sent_.size() - before;
  }

  // Readable and writable at any time.
  int fd() const override {
    static const int kReady = ::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    NBDKIT_CHECK(kReady >= 0);
    return kReady;
  }

  // Calls `action` with the receive after `receives` others.
  void at(unsigned receives, std::function<void()> action) {
    countdown_ = receives;
    before_ = std::move(action);
  }
  std::span<const std::byte> sent() const { return sent_; }

 private:
  std::span<const std::uint8_t> input_;
  const std::size_t piece_max_;
  std::vector<std::byte> sent_;
  std::function<void()> before_;
  unsigned countdown_ = 0;
};

}  // namespace nbdkit
