// SPDX-License-Identifier: BSD-3-Clause
#include "async/fd_watch.h"

#include <utility>

#include "base/check.h"

namespace nbdkit {

FdWatch::FdWatch(Loop& loop, int fd, std::function<void()> told)
    : loop_(loop), fd_(fd), told_(std::move(told)) {}

Result<void> FdWatch::start(std::uint32_t epoll_events) {
  NBDKIT_CHECK(!watching_);
  Result<void> started = loop_.watch(fd_, epoll_events, *this);
  watching_ = started.ok();
  return started;
}

void FdWatch::stop() {
  if (std::exchange(watching_, false)) loop_.unwatch(fd_, *this);
}

}  // namespace nbdkit
