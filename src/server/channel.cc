// SPDX-License-Identifier: BSD-3-Clause
#include "server/channel.h"

#include <algorithm>
#include <array>
#include <utility>

namespace nbdkit {

// A coroutine that waits for the socket, or for the gate to close.
class Channel::Readiness final : public Gate::Interruptible, public Job {
 public:
  Readiness(Channel& channel, Gate& gate) : Interruptible(gate), channel_(channel) {}
  virtual ~Readiness() = default;

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) noexcept {
    waiter_ = waiter;
    channel_.waiting_ = this;
  }
  bool await_resume() const noexcept { return !interrupted_; }

  void wake() {
    if (std::exchange(channel_.waiting_, nullptr) != nullptr) channel_.loop_.defer(*this);
  }

 private:
  void interrupt() noexcept override {
    interrupted_ = true;
    wake();
  }
  void run() noexcept override { waiter_.resume(); }

  Channel& channel_;
  std::coroutine_handle<> waiter_;
  bool interrupted_ = false;
};

void Channel::ready(std::uint32_t) noexcept {
  if (waiting_ != nullptr) waiting_->wake();
}

Task<void> Channel::wait(std::uint32_t epoll_events) {
  if (gate_.closed()) co_await fail(std::errc::operation_canceled);
  Result<void> watching = loop_.watch(stream_.fd(), epoll_events, *this);
  if (!watching.ok()) co_await fail(std::move(watching).error());
  Readiness readiness(*this, gate_);
  bool usable = co_await readiness;
  loop_.unwatch(stream_.fd(), *this);
  if (!usable) co_await fail(std::errc::operation_canceled);
}

Task<void> Channel::read(std::span<std::byte> into) {
  while (!into.empty()) {
    iovec piece{into.data(), into.size()};
    Result<std::size_t> received = stream_.receive(std::span(&piece, 1));
    if (received.ok()) {
      if (received.value() == 0) co_await fail(std::errc::connection_reset);
      into = into.subspan(received.value());
      continue;
    }
    if (received.error().code != std::errc::resource_unavailable_try_again) {
      co_await fail(std::move(received).error());
    }
    co_await wait(EPOLLIN);
  }
}

Task<void> Channel::write(std::span<const std::byte> from) {
  while (!from.empty()) {
    iovec piece{const_cast<std::byte*>(from.data()), from.size()};
    Result<std::size_t> sent = stream_.send(std::span(&piece, 1));
    if (sent.ok()) {
      from = from.subspan(sent.value());
      continue;
    }
    if (sent.error().code != std::errc::resource_unavailable_try_again) {
      co_await fail(std::move(sent).error());
    }
    co_await wait(EPOLLOUT);
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
