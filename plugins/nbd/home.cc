// SPDX-License-Identifier: BSD-3-Clause
#include "home.h"

#include <future>

#include "async/post.h"

namespace nbdkit {

template <typename Make>
Result<void> Home::finish_there(Make make) {
  std::promise<Result<void>> promise;
  post(loop_,
       [&] { finish(make(), [&](Result<void> result) { promise.set_value(std::move(result)); }); });
  return promise.get_future().get();
}

Result<std::unique_ptr<Home>> Home::start(Log& log, RemoteOptions options, LostWrites& lost) {
  std::unique_ptr<Home> home(new Home);
  NBDKIT_TRY(home->loop_.usable());
  home->remote_ =
      std::make_unique<RemoteExport>(home->loop_, home->gate_, log, std::move(options), lost);
  Result<Thread> thread = Thread::start("nbd", 0, [loop = &home->loop_] { loop->run(); });
  if (!thread.ok()) return std::move(thread).error();
  home->thread_.emplace(std::move(thread).value());
  NBDKIT_TRY(home->finish_there([&] { return home->remote_->open(); }));
  return home;
}

Home::~Home() {
  if (thread_) {
    Result<void> closed = finish_there([this] { return remote_->close(); });
    static_cast<void>(closed);
    loop_.stop();
    thread_->join();
  }
  remote_.reset();
  workers_.stop();  // A worker touches the loop for a moment after it has given a job back.
}

void HomeCall::await_suspend(std::coroutine_handle<> waiter) noexcept {
  waiter_ = waiter;
  own_.work_began();
  home_.loop().post(*this);
}

// First at home, then again on the loop of who asked.
void HomeCall::run() noexcept {
  if (result_) {
    own_.work_ended();
    return waiter_.resume();
  }
  finish(begin(home_.remote()), [this](Result<void> result) {
    result_.emplace(std::move(result));
    own_.post(*this);
  });
}

}  // namespace nbdkit
