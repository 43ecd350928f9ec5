// SPDX-License-Identifier: BSD-3-Clause
// Home: the thread of the connection that all clients share (shared=true).
#pragma once

#include <coroutine>
#include <memory>
#include <optional>
#include <utility>

#include "async/gate.h"
#include "async/loop.h"
#include "async/thread.h"
#include "async/worker_pool.h"
#include "client/remote_export.h"

namespace nbdkit {

class Home {
 public:
  // Connects, and waits for that.
  static Result<std::unique_ptr<Home>> start(Log& log, RemoteOptions options, LostWrites& lost);
  // When nothing is under way any more.
  ~Home();

  Loop& loop() { return loop_; }
  // Requests are for its own thread only; what was agreed upon is for all.
  RemoteExport& remote() { return *remote_; }

 private:
  Home() : gate_(loop_) {}

  // Runs the Task that `make` makes to its end, from another thread.
  template <typename Make>
  Result<void> finish_there(Make make);

  WorkerPool workers_;
  Loop loop_{workers_};
  Gate gate_;
  std::unique_ptr<RemoteExport> remote_;
  std::optional<Thread> thread_;
};

// What a coroutine of another loop asks for: goes home, waits, and comes back.
class HomeCall : private Job {
 public:
  HomeCall(Home& home, Loop& own) : home_(home), own_(own) {}
  HomeCall(const HomeCall&) = delete;
  HomeCall& operator=(const HomeCall&) = delete;

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) noexcept;
  Result<void> await_resume() noexcept { return std::move(*result_); }

 protected:
  ~HomeCall() = default;
  virtual Task<void> begin(RemoteExport& remote) = 0;  // at home

 private:
  void run() noexcept override;

  Home& home_;
  Loop& own_;
  std::coroutine_handle<> waiter_;
  std::optional<Result<void>> result_;
};

}  // namespace nbdkit
