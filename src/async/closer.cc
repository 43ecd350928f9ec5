// SPDX-License-Identifier: BSD-3-Clause
#include "async/closer.h"

#include <sys/socket.h>

#include <mutex>
#include <utility>
#include <vector>

#include "async/thread.h"

namespace nbdkit {

namespace {

// Asks the socket layer only: anything else could block by itself.
bool may_block(int fd) {
  linger patience{};
  socklen_t length = sizeof patience;
  if (::getsockopt(fd, SOL_SOCKET, SO_LINGER, &patience, &length) != 0) return true;
  return patience.l_onoff != 0 && patience.l_linger != 0;
}

}  // namespace

struct Closer::Queue {
  std::mutex mutex;
  std::vector<UniqueFd> waiting;
  bool working = false;  // there is a thread, and it will look again
};

Closer::Closer() : queue_(std::make_shared<Queue>()) {}

Closer::~Closer() = default;

void Closer::close(UniqueFd fd) {
  if (!fd || !may_block(fd.get())) return;
  std::lock_guard lock(queue_->mutex);
  queue_->waiting.push_back(std::move(fd));
  if (queue_->working) return;
  constexpr std::size_t kStackSize = 64 * 1024;
  auto thread = Thread::start("closer", kStackSize, [queue = queue_] { work(queue); });
  // Without a thread they wait for the next one.
  if (!thread.ok()) return;
  thread.value().detach();
  queue_->working = true;
}

void Closer::work(std::shared_ptr<Queue> queue) {
  for (;;) {
    std::vector<UniqueFd> now;  // closed at the end of the turn, after the lock has been given back
    std::lock_guard lock(queue->mutex);
    now.swap(queue->waiting);
    if (now.empty()) {
      queue->working = false;
      return;
    }
  }
}

}  // namespace nbdkit
