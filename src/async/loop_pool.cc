// SPDX-License-Identifier: BSD-3-Clause
#include "async/loop_pool.h"

#include <algorithm>
#include <future>
#include <optional>
#include <thread>
#include <utility>

#include "async/post.h"
#include "base/check.h"

namespace nbdkit {

struct LoopPool::Member {
  explicit Member(WorkerPool& workers) : loop(workers) {}
  Loop loop;
  std::optional<Thread> thread;
  std::size_t users = 0;
};

LoopPool::LoopPool(WorkerPool& workers)
    : workers_(workers),
      loops_max_(std::min<std::size_t>(
          kLoopsMax, kLoopsPerCpu * std::max(1u, std::thread::hardware_concurrency()))) {}

LoopPool::~LoopPool() {
  for (auto& member : members_) {
    NBDKIT_CHECK(member->users == 0);
    member->loop.stop();
    member->thread->join();
  }
}

Result<LoopPool::Member*> LoopPool::add() {
  auto member = std::make_unique<Member>(workers_);
  Loop& loop = member->loop;
  NBDKIT_TRY(loop.usable());
  Result<Thread> thread = Thread::start("loop", 0, [&loop] {
    Thread::serves();
    loop.run();
  });
  if (!thread.ok()) return std::move(thread).error();
  member->thread.emplace(std::move(thread).value());
  members_.push_back(std::move(member));
  return members_.back().get();
}

Result<void> LoopPool::prepare() {
  std::lock_guard lock(mutex_);
  if (!members_.empty()) return {};
  Result<Member*> added = add();
  if (!added.ok()) return std::move(added).error();
  return {};
}

Result<void> LoopPool::fix(std::size_t loops) {
  std::lock_guard lock(mutex_);
  loops_max_ = loops;
  while (members_.size() < loops) {
    Result<Member*> added = add();
    if (!added.ok()) return std::move(added).error();
  }
  // What is kept for coroutines is the thread's own.
  std::promise<Result<void>> stocked;
  Loop& first = members_.front()->loop;
  post(first, [&first, &stocked] {
    Result<void> done = first.stock();
    // To touch so much memory may take longer than a real-time thread may go on without waiting:
    // then it is an ordinary one by now.
    Thread::serves();
    stocked.set_value(std::move(done));
  });
  return stocked.get_future().get();
}

Result<Loop*> LoopPool::acquire() {
  std::lock_guard lock(mutex_);
  auto least = std::min_element(members_.begin(), members_.end(),
                                [](const auto& a, const auto& b) { return a->users < b->users; });
  bool all_busy = least == members_.end() || (*least)->users > 0;
  Member* chosen = all_busy ? nullptr : least->get();
  if (all_busy && members_.size() < loops_max_) {
    Result<Member*> added = add();
    if (added.ok()) chosen = added.value();
    // With a loop at hand, being out of threads or descriptors is no reason to turn a client away.
    if (!added.ok() && members_.empty()) return std::move(added).error();
  }
  if (chosen == nullptr) chosen = least->get();
  ++chosen->users;
  return &chosen->loop;
}

void LoopPool::release(Loop& loop) {
  std::lock_guard lock(mutex_);
  auto member = std::find_if(members_.begin(), members_.end(),
                             [&](const auto& one) { return &one->loop == &loop; });
  NBDKIT_CHECK(member != members_.end() && (*member)->users > 0);
  --(*member)->users;
}

}  // namespace nbdkit
