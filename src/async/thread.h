// SPDX-License-Identifier: BSD-3-Clause
// Thread: a joined thread whose creation can fail without an exception.
#pragma once

#include <pthread.h>

#include <cstddef>
#include <functional>
#include <string>

#include "base/result.h"

namespace nbdkit {

// Of all threads that are started later.
struct ThreadPolicy {
  std::size_t stack_size = 0;  // of those that ask for the default
  bool realtime = false;       // of those that serve: SCHED_FIFO
};

class Thread {
 public:
  static constexpr int kRealtimePriority = 1;

  // Before the first thread is started.
  static void set_policy(const ThreadPolicy& policy);
  static const ThreadPolicy& policy();
  // In a thread that serves, first of all. What it starts is ordinary again.
  static void serves();

  // `name` is cut to 15 bytes (the kernel's limit); stack_size 0 is the policy's, or the system's.
  static Result<Thread> start(const std::string& name, std::size_t stack_size,
                              std::function<void()> body);

  Thread(Thread&& other) noexcept;
  Thread& operator=(Thread&&) = delete;
  ~Thread();  // Must have been joined or detached.

  void join();
  // Leaves it to itself: for a thread that may be inside the kernel for ever. What it uses must be
  // its own.
  void detach();

 private:
  explicit Thread(pthread_t id) : id_(id), joinable_(true) {}

  pthread_t id_;
  bool joinable_;
};

}  // namespace nbdkit
