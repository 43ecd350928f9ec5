// SPDX-License-Identifier: BSD-3-Clause
#include "async/thread.h"

#include <sched.h>

#include <memory>
#include <utility>

#include "base/check.h"

namespace nbdkit {
namespace {

ThreadPolicy thread_policy;

void* run_body(void* argument) {
  std::unique_ptr<std::function<void()>> body(static_cast<std::function<void()>*>(argument));
  (*body)();
  return nullptr;
}

}  // namespace

void Thread::set_policy(const ThreadPolicy& policy) { thread_policy = policy; }

const ThreadPolicy& Thread::policy() { return thread_policy; }

void Thread::serves() {
  if (!thread_policy.realtime) return;
  sched_param parameter{};
  parameter.sched_priority = kRealtimePriority;
  // The main thread has got it, so it is permitted.
  ::sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &parameter);
}

Result<Thread> Thread::start(const std::string& name, std::size_t stack_size,
                             std::function<void()> body) {
  if (stack_size == 0) stack_size = thread_policy.stack_size;
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  if (stack_size != 0) ::pthread_attr_setstacksize(&attributes, stack_size);
  auto argument = std::make_unique<std::function<void()>>(std::move(body));
  pthread_t id;
  int error = ::pthread_create(&id, &attributes, &run_body, argument.get());
  ::pthread_attr_destroy(&attributes);
  if (error != 0) return os_error("starting a thread", error);
  argument.release();  // run_body owns it now.
  ::pthread_setname_np(id, name.substr(0, 15).c_str());
  return Thread(id);
}

Thread::Thread(Thread&& other) noexcept
    : id_(other.id_), joinable_(std::exchange(other.joinable_, false)) {}

Thread::~Thread() { NBDKIT_CHECK(!joinable_); }

void Thread::join() {
  NBDKIT_CHECK(joinable_);
  ::pthread_join(id_, nullptr);
  joinable_ = false;
}

void Thread::detach() {
  NBDKIT_CHECK(joinable_);
  ::pthread_detach(id_);
  joinable_ = false;
}

}  // namespace nbdkit
