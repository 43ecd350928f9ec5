// SPDX-License-Identifier: BSD-3-Clause
#include "client/remote_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace nbdkit {
namespace {

constexpr std::string_view kWho = "nbd";

}  // namespace

class RemoteLine::Waiter final : public Job {
 public:
  explicit Waiter(RemoteLine& line) : line_(line) {}
  virtual ~Waiter() = default;

  bool await_ready() const noexcept { return line_.state_ != State::waiting; }
  void await_suspend(std::coroutine_handle<> waiter) noexcept {
    waiter_ = waiter;
    line_.waiters_.push(*this);
  }
  void await_resume() const noexcept {}
  void run() noexcept override { waiter_.resume(); }

 private:
  RemoteLine& line_;
  std::coroutine_handle<> waiter_;
};

RemoteLine::RemoteLine(Loop& loop, Gate& gate, Log& log, const RemoteOptions& options,
                       std::uint64_t& losses, std::function<void()> lost)
    : loop_(loop),
      gate_(gate),
      log_(log),
      options_(options),
      losses_(losses),
      lost_(std::move(lost)) {}

RemoteLine::~RemoteLine() { NBDKIT_CHECK(waiters_.empty()); }

Result<void> RemoteLine::start(ClientSession session) {
  first_ = session.agreement;
  return install(std::move(session));
}

Result<void> RemoteLine::install(ClientSession session) {
  connection_ = std::make_unique<ClientConnection>(loop_, std::move(session),
                                                   [this](const Error& why) { on_lost(why); });
  NBDKIT_TRY(connection_->start());
  state_ = State::up;
  losses_before_ = losses_;
  loop_.timers().disarm(*this);
  return {};
}

bool RemoteLine::retire() {
  if (given_up_ || options_.reconnect_max == Nanoseconds(0)) return false;
  if (!can_connect_again(options_.address)) return false;
  if (alive()) connection_->abort(Error(std::errc::connection_reset, "the server is about to end"));
  return true;
}

// The calls that were under way end later in this turn, and then wait here.
void RemoteLine::on_lost(const Error& why) {
  why_ = fmt::format("{}: the connection is lost: {}", to_string(options_.address), why.message());
  log_.warning(kWho, "{}", why_);
  ++losses_;
  lost_();
  loop_.timers().disarm(*this);
  bool again =
      !given_up_ && options_.reconnect_max > Nanoseconds(0) && can_connect_again(options_.address);
  state_ = again ? State::waiting : State::failing;
  if (!again) return;
  loop_.timers().arm(*this, loop_.now() + options_.reconnect_max);
  // Not before this turn's end: the connection is in the loop's lists until then.
  if (gate_.enter()) loop_.at_next_turn(*this);
}

void RemoteLine::run() noexcept {
  finish(connect_again(), [this](Result<void>) { gate_.leave(); });
}

Task<void> RemoteLine::connect_again() {
  Nanoseconds delay = kDelayMin;
  while (!gate_.closed() && !given_up_) {
    Result<void> connected = co_await try_again().as_result();
    if (connected.ok()) {
      log_.warning(kWho, "{}: connected again", to_string(options_.address));
      break;
    }
    why_ = connected.error().message();
    Result<void> slept = co_await loop_.sleep(delay, gate_).as_result();
    if (!slept.ok()) break;
    delay = std::min<Nanoseconds>(2 * delay, kDelayMax);
  }
  if (state_ != State::up) state_ = State::failing;
  wake_waiters();
}

Task<void> RemoteLine::try_again() {
  ClientSession session = co_await connect_session(loop_, gate_, options_);
  if (!session.agreement.is_same_export(first_)) {
    // Who is above has been told another size, or will ask for what is not there any more.
    co_await fail(Error(std::errc::io_error,
                        fmt::format("{}: the server is back with another export: size {} instead "
                                    "of {}, flags {:#x} instead of {:#x}",
                                    to_string(options_.address), session.agreement.size,
                                    first_.size, session.agreement.flags, first_.flags)));
  }
  Result<void> installed = install(std::move(session));
  if (!installed.ok()) co_await fail(std::move(installed).error());
}

// The requests have waited for long enough.
void RemoteLine::expired() noexcept {
  if (state_ == State::up) {
    // give_up() has armed it: the server owes answers that nobody wants.
    connection_->abort(Error(std::errc::timed_out, "the server does not answer"));
    return;
  }
  log_.error(kWho, "{}", why_);
  state_ = State::failing;
  wake_waiters();
}

void RemoteLine::wake_waiters() {
  while (Job* waiter = waiters_.pop()) loop_.defer(*waiter);
}

Task<void> RemoteLine::until_up() {
  while (!alive()) {
    Waiter waiter(*this);
    co_await waiter;
    if (state_ == State::failing) co_await fail(Error(std::errc::io_error, why_));
  }
}

void RemoteLine::give_up(Nanoseconds patience) {
  given_up_ = true;
  if (state_ == State::waiting) state_ = State::failing;
  wake_waiters();
  if (alive()) loop_.timers().arm(*this, loop_.now() + patience);
}

Task<void> RemoteLine::close() {
  loop_.timers().disarm(*this);
  if (!connection_) co_return;
  connection_->leave();
  co_await connection_->settled();
  connection_.reset();
}

}  // namespace nbdkit
