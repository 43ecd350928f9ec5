// SPDX-License-Identifier: BSD-3-Clause
// Thread: a joined thread whose creation can fail without an exception.
#pragma once

#include <pthread.h>

#include <cstddef>
#include <functional>
#include <string>

#include "base/result.h"

namespace nbdkit {

class Thread {
 public:
  // `name` is cut to 15 bytes (the kernel's limit); stack_size 0 is the system's default.
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
