// SPDX-License-Identifier: BSD-3-Clause
// LogRing: messages of threads that must not wait for whoever takes them, and need no memory for
// them. Another thread writes them.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "async/thread.h"
#include "base/log.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace nbdkit {

class LogRing {
 public:
  static constexpr std::size_t kMessagesMax =
      256;                                      // What comes on top of them is lost, and counted.
  static constexpr std::size_t kWhoMax = 64;    // bytes
  static constexpr std::size_t kTextMax = 512;  // bytes; the rest of a message is cut off

  using Write = std::function<void(LogLevel, std::string_view who, std::string_view text)>;

  // `write` is called on a thread of the ring's own, which is never one that serves.
  static Result<std::unique_ptr<LogRing>> start(Write write);
  LogRing(const LogRing&) = delete;
  LogRing& operator=(const LogRing&) = delete;
  ~LogRing() { stop(); }

  // Any thread. Never waits.
  void push(LogLevel level, std::string_view who, std::string_view text);

  // Writes what is there and ends the thread. What is pushed later is never written.
  void stop();

 private:
  // The number of the turn that it is ready for: `at` to be filled with message `at`, `at + 1` to
  // be written, `at + kMessagesMax` to be filled again.
  struct Message {
    std::atomic<std::uint64_t> turn{0};
    LogLevel level = LogLevel::error;
    std::size_t who_size = 0;
    std::size_t text_size = 0;
    std::array<char, kWhoMax> who{};
    std::array<char, kTextMax> text{};
  };

  explicit LogRing(Write write);
  void write_all();
  bool write_next();

  const Write write_;
  UniqueFd wake_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint64_t> pushed_{0};
  std::atomic<std::uint64_t> lost_{0};
  std::uint64_t written_ = 0;  // the writing thread's
  std::array<Message, kMessagesMax> messages_;
  std::optional<Thread> thread_;
};

}  // namespace nbdkit
