// SPDX-License-Identifier: BSD-3-Clause
// Job: something to run once, somewhere else. Intrusive, so that handing one over allocates
// nothing.
#pragma once

#include <utility>

namespace nbdkit {

// Owned by whoever waits for it; must stay alive until run() has been called, and run() may end it.
class Job {
 public:
  virtual void run() noexcept = 0;

  Job* next = nullptr;  // For the queue that holds it.

 protected:
  ~Job() = default;
};

// First in, first out. Not thread-safe.
class JobQueue {
 public:
  bool empty() const { return head_ == nullptr; }
  void push(Job& job) {
    job.next = nullptr;
    (tail_ != nullptr ? tail_->next : head_) = &job;
    tail_ = &job;
  }
  Job* pop() {
    Job* job = head_;
    if (job == nullptr) return nullptr;
    head_ = std::exchange(job->next, nullptr);
    if (head_ == nullptr) tail_ = nullptr;
    return job;
  }
  // Everything from `other`, in order, behind what is here.
  void append(JobQueue& other) {
    if (other.empty()) return;
    (tail_ != nullptr ? tail_->next : head_) = other.head_;
    tail_ = other.tail_;
    other.head_ = other.tail_ = nullptr;
  }

 private:
  Job* head_ = nullptr;
  Job* tail_ = nullptr;
};

}  // namespace nbdkit
