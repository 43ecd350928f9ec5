// SPDX-License-Identifier: BSD-3-Clause
// FdWatch: calls a function when a descriptor is ready, for as long as it lives.
#pragma once

#include <cstdint>
#include <functional>

#include "async/loop.h"

namespace nbdkit {

// One loop's; its thread only. The function must not destroy it, but may stop it.
class FdWatch final : private Watcher {
 public:
  // `fd` is lent until stop() or the end.
  FdWatch(Loop& loop, int fd, std::function<void()> told);
  FdWatch(const FdWatch&) = delete;
  FdWatch& operator=(const FdWatch&) = delete;
  ~FdWatch() { stop(); }

  // Errors and hang-ups are told whatever `epoll_events` are; level-triggered.
  Result<void> start(std::uint32_t epoll_events);
  void stop();

 private:
  void ready(std::uint32_t) noexcept override { told_(); }

  Loop& loop_;
  int fd_;
  std::function<void()> told_;
  bool watching_ = false;
};

}  // namespace nbdkit
