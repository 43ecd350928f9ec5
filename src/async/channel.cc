// SPDX-License-Identifier: BSD-3-Clause
#include "async/channel.h"

#include <algorithm>
#include <array>
#include <utility>

#include "async/readiness.h"

namespace nbdkit {

Task<void> Channel::read(std::span<std::byte> into) {
  while (!into.empty()) {
    iovec piece{into.data(), into.size()};
    Result<std::size_t> received = stream_->receive(std::span(&piece, 1));
    if (received.ok()) {
      if (received.value() == 0) co_await fail(std::errc::connection_reset);
      into = into.subspan(received.value());
      continue;
    }
    if (received.error().code != std::errc::resource_unavailable_try_again) {
      co_await fail(std::move(received).error());
    }
    co_await wait_ready(loop_, gate_, stream_->fd(), EPOLLIN);
  }
}

Task<void> Channel::write(std::span<const std::byte> from) {
  while (!from.empty()) {
    iovec piece{const_cast<std::byte*>(from.data()), from.size()};
    Result<std::size_t> sent = stream_->send(std::span(&piece, 1));
    if (sent.ok()) {
      from = from.subspan(sent.value());
      continue;
    }
    if (sent.error().code != std::errc::resource_unavailable_try_again) {
      co_await fail(std::move(sent).error());
    }
    co_await wait_ready(loop_, gate_, stream_->fd(), EPOLLOUT);
  }
}

Task<void> Channel::skip(std::uint64_t length) {
  std::array<std::byte, 4096> nowhere;
  while (length > 0) {
    std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(length, nowhere.size()));
    co_await read(std::span(nowhere).first(n));
    length -= n;
  }
}

}  // namespace nbdkit
