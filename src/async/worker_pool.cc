// SPDX-License-Identifier: BSD-3-Clause
#include "async/worker_pool.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/check.h"

namespace nbdkit {

struct WorkerPool::Worker {
  std::optional<Thread> thread;
};

WorkerPool::WorkerPool() : WorkerPool(Limits{}) {}
WorkerPool::WorkerPool(Limits limits) : limits_(limits) {}

WorkerPool::~WorkerPool() { stop(); }

void WorkerPool::stop() {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  wake_.notify_all();
  while (!workers_.empty() || !ended_.empty()) {
    std::list<Worker> ended;
    ended.swap(ended_);
    if (ended.empty()) {
      wake_.wait(lock);
      continue;
    }
    lock.unlock();
    reap(ended);
    lock.lock();
  }
}

void WorkerPool::reap(std::list<Worker>& ended) {
  for (Worker& worker : ended) worker.thread->join();
  ended.clear();
}

std::size_t WorkerPool::threads() const {
  std::lock_guard lock(mutex_);
  return workers_.size();
}

Result<void> WorkerPool::fix(std::size_t threads) {
  std::lock_guard lock(mutex_);
  limits_.threads_max = threads;
  fixed_ = true;
  while (workers_.size() < threads) {
    if (!start_thread()) {
      return Error(std::errc::resource_unavailable_try_again,
                   "no more threads can be made (the limit is that of 'ulimit -u')");
    }
  }
  return {};
}

void WorkerPool::submit(Job& job) {
  JobQueue one;
  one.push(job);
  submit(one);
}

// Called with the lock: the new thread cannot look at its entry before that is complete.
bool WorkerPool::start_thread() {
  workers_.emplace_back();
  auto self = std::prev(workers_.end());
  Result<Thread> thread = Thread::start("worker", 0, [this, self] { work(self); });
  if (!thread.ok()) {
    workers_.erase(self);
    return false;
  }
  self->thread.emplace(std::move(thread).value());
  ++starting_;
  return true;
}

void WorkerPool::submit(JobQueue& jobs) {
  std::list<Worker> ended;
  {
    std::unique_lock lock(mutex_);
    NBDKIT_CHECK(!stopping_);
    ended.swap(ended_);
    while (Job* job = jobs.pop()) {
      queue_.push(*job);
      ++queued_;
    }
    for (std::size_t i = std::min(queued_, idle_); i > 0; --i) wake_.notify_one();
    std::size_t wanted = queued_ - std::min(queued_, idle_ + starting_);
    while (wanted > 0 && workers_.size() < limits_.threads_max && start_thread()) --wanted;
    if (workers_.empty()) {
      jobs.append(queue_);
      queued_ = 0;
    }
  }
  reap(ended);
  while (Job* job = jobs.pop()) job->run();
}

void WorkerPool::work(std::list<Worker>::iterator self) {
  Thread::serves();
  std::unique_lock lock(mutex_);
  --starting_;
  for (;;) {
    if (Job* job = queue_.pop()) {
      --queued_;
      lock.unlock();
      job->run();
      lock.lock();
      continue;
    }
    if (stopping_) break;
    ++idle_;
    bool woken = wake_.wait_for(lock, limits_.idle_max, [&] { return queued_ > 0 || stopping_; });
    --idle_;
    if (!woken && !fixed_) break;
  }
  ended_.splice(ended_.end(), workers_, self);
  if (stopping_) wake_.notify_all();
}

}  // namespace nbdkit
