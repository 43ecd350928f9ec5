// SPDX-License-Identifier: BSD-3-Clause
// A device whose sockets lead to another NBD server, without one of ours between. The driver tells
// which have died, waits with their requests, and sends them again on those that replace them.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "attach/attachment.h"
#include "attach/dead_timeout.h"
#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

constexpr Milliseconds kTurn{1};
constexpr Nanoseconds kDelayMin = Milliseconds(100);
constexpr Nanoseconds kDelayMax = Seconds(5);

}  // namespace

Task<void> Attachment::start_remote() {
  Result<UniqueFd> saved = seal(save_options(options_));
  if (!saved.ok()) co_await fail(std::move(saved).error());
  start_ = std::move(saved).value();
  Result<std::unique_ptr<RemoteSource>> source = RemoteSource::create(loop_, options_);
  if (!source.ok()) co_await fail(std::move(source).error());
  remote_ = std::move(source).value();
  RemoteSource::Connection first = co_await remote_->connect();
  export_ = first.info;
  served_ = std::move(first.info);
  remote_sockets_.push_back(std::move(first.socket));
}

// Those that are new, at first, are as many as the device has.
Task<void> Attachment::connect_to_remote(unsigned count, std::vector<UniqueFd>& kernel_ends) {
  while (kernel_ends.size() < count) {
    if (!remote_sockets_.empty()) {
      kernel_ends.push_back(std::move(remote_sockets_.back()));
      remote_sockets_.pop_back();
      continue;
    }
    RemoteSource::Connection next = co_await remote_->connect();
    Result<void> same = check_same(next.info);
    if (!same.ok()) co_await fail(std::move(same).error());
    kernel_ends.push_back(std::move(next.socket));
  }
  // The same sockets: shut down, they are for the driver, too.
  for (const UniqueFd& end : kernel_ends) {
    Result<UniqueFd> ours = end.duplicate();
    if (!ours.ok()) co_await fail(std::move(ours).error());
    server_ends_.push_back(std::move(ours).value());
  }
}

void Attachment::remote_died(unsigned connections) {
  if (state_ == DeviceState::lost || resumed_ == DeviceState::lost) return;
  dead_ = std::min(options_.connections, dead_ + connections);
  last_error_ = fmt::format("{} of {} connections lost", dead_, options_.connections);
  // A connection may be lost because its server is, and with that what it had not flushed.
  if (state_after_server_end(export_.survives, export_.read_only()) == DeviceState::lost) {
    dead_ = options_.connections;
    shut_down_connections();
    return lose("answered writes that were not flushed may be gone with the server");
  }
  begin_reconnecting();
}

void Attachment::begin_reconnecting() {
  tell_of_remote();
  if (recovering_ || !gate_.enter()) return;
  recovering_ = true;
  finish(reconnect(), [this](Result<void> done) {
    if (!done.ok()) log_.debug("", "{}", done.error().message());
    recovering_ = false;
    gate_.leave();
  });
}

void Attachment::tell_of_remote() {
  DeviceState state = dead_ < options_.connections ? DeviceState::degraded : DeviceState::waiting;
  set_state(state, last_error_ + "; they are made again");
}

// Ends when every connection is there, or when it is given up; with an Error when it is closed.
Task<void> Attachment::reconnect() {
  co_await loop_.sleep(kTurn, gate_);
  Nanoseconds began = loop_.now();
  Nanoseconds delay = kDelayMin;
  log_.error("", "/dev/nbd{}: {}; requests wait for up to {} s", *index_, last_error_,
             options_.dead_timeout.count());
  while (dead_ > 0) {
    Result<void> replaced = co_await replace_dead(dead_).as_result();
    if (closed_) co_await fail(std::errc::operation_canceled);
    if (replaced.ok()) continue;
    last_error_ = replaced.error().message();
    bool other_data = exit_code_of(replaced.error()) == ExitCode::identity_mismatch;
    bool expired = dead_ == options_.connections && loop_.now() - began >= options_.dead_timeout;
    if (other_data || expired) {
      give_up(last_error_);
      co_return;
    }
    tell_of_remote();
    co_await loop_.sleep(delay, gate_);
    delay = std::min(2 * delay, kDelayMax);
  }
  ++restarts_;
  log_begin_ = end_of_kernel_log();
  log_.warning("", "/dev/nbd{}: connected again after {:.1f} s", *index_,
               std::chrono::duration<double>(loop_.now() - began).count());
  set_state(DeviceState::connected, {});
}

// The driver takes a socket for each that it has told to be dead.
Task<void> Attachment::replace_dead(unsigned count) {
  drop_refused_connections();
  const auto alive = static_cast<std::ptrdiff_t>(server_ends_.size());
  std::vector<UniqueFd> kernel_ends;
  co_await connect_to_remote(count, kernel_ends);
  Result<void> given = co_await give_to_kernel(kernel_ends).as_result();
  if (given.ok()) {
    dead_ -= count;
    co_return;
  }
  // Or the other server would have clients that nobody is.
  server_ends_.erase(server_ends_.begin() + alive, server_ends_.end());
  co_await fail(std::move(given).error());
}

// Which of the connections have died without a keeper nobody knows. The driver closes what it has
// no place for, so nothing of these is kept here.
Task<void> Attachment::adopt_remote() {
  Result<std::unique_ptr<RemoteSource>> source = RemoteSource::create(loop_, options_);
  if (!source.ok()) co_await fail(std::move(source).error());
  remote_ = std::move(source).value();
  // One that has died may have taken data along: it must not be replaced as if nothing had
  // happened.
  if (state_after_server_end(export_.survives, export_.read_only()) == DeviceState::lost) co_return;
  Result<void> waits = check_dead_timeout(options_.force);
  if (!waits.ok()) co_await fail(std::move(waits).error());
  std::vector<UniqueFd> kernel_ends;
  co_await connect_to_remote(options_.connections, kernel_ends);
  server_ends_.clear();
  co_await give_to_kernel(kernel_ends);
}

}  // namespace nbdkit
