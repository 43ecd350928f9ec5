// SPDX-License-Identifier: BSD-3-Clause
#include "async/log_ring.h"

#include <sys/eventfd.h>

#include <utility>

namespace nbdkit {

LogRing::LogRing(Write write) : write_(std::move(write)) {
  for (std::size_t i = 0; i < kMessagesMax; ++i) messages_[i].turn = i;
}

Result<std::unique_ptr<LogRing>> LogRing::start(Write write) {
  std::unique_ptr<LogRing> ring(new LogRing(std::move(write)));
  ring->wake_.reset(::eventfd(0, EFD_CLOEXEC));
  if (!ring->wake_) return os_error("eventfd");
  Result<Thread> thread = Thread::start("log", 0, [it = ring.get()] { it->write_all(); });
  if (!thread.ok()) return std::move(thread).error();
  ring->thread_.emplace(std::move(thread).value());
  return ring;
}

void LogRing::stop() {
  if (!thread_) return;
  stopping_ = true;
  ::eventfd_write(wake_.get(), 1);
  thread_->join();
  thread_.reset();
}

void LogRing::push(LogLevel level, std::string_view who, std::string_view text) {
  std::uint64_t at = pushed_.load(std::memory_order_relaxed);
  Message* message = nullptr;
  for (;;) {
    message = &messages_[at % kMessagesMax];
    const std::uint64_t turn = message->turn.load(std::memory_order_acquire);
    if (turn < at) {
      lost_.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    if (turn == at && pushed_.compare_exchange_weak(at, at + 1, std::memory_order_relaxed)) break;
    if (turn > at) at = pushed_.load(std::memory_order_relaxed);
  }
  message->level = level;
  message->who_size = who.copy(message->who.data(), kWhoMax);
  message->text_size = text.copy(message->text.data(), kTextMax);
  message->turn.store(at + 1, std::memory_order_release);
  ::eventfd_write(wake_.get(), 1);
}

bool LogRing::write_next() {
  Message& message = messages_[written_ % kMessagesMax];
  if (message.turn.load(std::memory_order_acquire) != written_ + 1) return false;
  write_(message.level, {message.who.data(), message.who_size},
         {message.text.data(), message.text_size});
  message.turn.store(written_ + kMessagesMax, std::memory_order_release);
  ++written_;
  return true;
}

void LogRing::write_all() {
  for (;;) {
    const bool last = stopping_;
    while (write_next()) {
    }
    if (const std::uint64_t lost = lost_.exchange(0)) {
      char text[80];
      auto end =
          fmt::format_to_n(text, sizeof text, "{} messages were lost: too many at once", lost);
      write_(LogLevel::warning, {}, {text, end.size});
    }
    if (last) return;
    eventfd_t count;
    ::eventfd_read(wake_.get(), &count);
  }
}

}  // namespace nbdkit
