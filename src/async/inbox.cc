// SPDX-License-Identifier: BSD-3-Clause
#include "async/inbox.h"

#include <sys/eventfd.h>

#include <thread>

namespace nbdkit {

Result<void> Inbox::open() {
  wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_) return os_error("eventfd");
  return {};
}

// The loop may do a job, and with that its last one, before the thread that brought it has left
// push().
Inbox::~Inbox() {
  while (pushing_.load(std::memory_order_acquire) != 0) std::this_thread::yield();
}

void Inbox::push(Job& job) {
  pushing_.fetch_add(1, std::memory_order_relaxed);
  // Sequentially consistent, as is everything in prepare_to_sleep(): either the loop sees this job
  // before it sleeps, or we see that it sleeps.
  Job* top = newest_.load();
  do {
    job.next = top;
  } while (!newest_.compare_exchange_weak(top, &job));
  if (sleeping_.load() && sleeping_.exchange(false)) wake();
  pushing_.fetch_sub(1, std::memory_order_release);
}

bool Inbox::prepare_to_sleep() {
  sleeping_.store(true);
  if (newest_.load() == nullptr) return true;
  sleeping_.store(false);
  return false;
}

void Inbox::wake() { ::eventfd_write(wake_.get(), 1); }

void Inbox::awake() { sleeping_.store(false); }

JobQueue Inbox::take() {
  JobQueue queue;
  Job* job = newest_.exchange(nullptr);
  Job* oldest = nullptr;
  while (job != nullptr) {
    Job* older = job->next;
    job->next = oldest;
    oldest = job;
    job = older;
  }
  while (oldest != nullptr) {
    Job* newer = oldest->next;
    queue.push(*oldest);
    oldest = newer;
  }
  return queue;
}

}  // namespace nbdkit
