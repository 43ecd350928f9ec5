// SPDX-License-Identifier: BSD-3-Clause
// What happens to a device whose server has ended by itself. Requests that it has not answered are
// in the driver, which sends them again to the sockets of the next server.
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "attach/attachment.h"
#include "attach/dead_timeout.h"
#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

constexpr Milliseconds kTurn{1};
constexpr Milliseconds kPause{50};
constexpr Seconds kOrphansMax{1};     // then it is said that they are waited for
constexpr Milliseconds kRefusal{50};  // within which the driver drops a socket that it cannot use
constexpr Seconds kReplaceMax{10};
constexpr Seconds kNodeMax{5};
constexpr Milliseconds kGoneMax{300};

std::string list_of(const std::vector<pid_t>& processes) {
  return fmt::format("{}", fmt::join(processes, ", "));
}

}  // namespace

void Attachment::begin_recovery(std::string why) {
  if (!gate_.enter()) return;
  recovering_ = true;
  restart_policy_.has_served(loop_.now() - served_since_);
  last_error_ = std::move(why);
  log_.error("", "/dev/nbd{}: {}; it is started again, requests wait for up to {} s", *index_,
             last_error_, options_.dead_timeout.count());
  set_state(DeviceState::waiting, last_error_ + "; another one is started");
  finish(recover(), [this](Result<void> done) {
    if (!done.ok()) log_.debug("", "{}", done.error().message());
    recovering_ = false;
    gate_.leave();
    // The new one may have ended before anybody watched for it.
    DeviceState now = state_ == DeviceState::detaching ? resumed_ : state_;
    if (done.ok() && is_served(now) && !server_->end().empty()) server_ended();
  });
}

// Ends when the device is served, or given up; with an Error when it is being closed.
Task<void> Attachment::recover() {
  // We may be inside of what is told of the end, and that goes now.
  co_await loop_.sleep(kTurn, gate_);
  Nanoseconds began = loop_.now();
  for (;;) {
    look_for_suspects();
    co_await end_server();
    std::optional<Nanoseconds> delay = restart_policy_.next_delay(loop_.now());
    if (!delay) {
      give_up(fmt::format("{} servers in a row have not lived: {}", RestartPolicy::kStartsMax,
                          last_error_));
      co_return;
    }
    co_await loop_.sleep(*delay + kTurn, gate_);
    if (closed_) co_await fail(std::errc::operation_canceled);
    Result<void> back = co_await bring_back().as_result();
    if (closed_) co_await fail(std::errc::operation_canceled);
    if (back.ok()) break;
    last_error_ = back.error().message();
    if (exit_code_of(back.error()) == ExitCode::identity_mismatch) {
      co_await end_server();
      give_up(last_error_);
      co_return;
    }
    log_.error("", "/dev/nbd{}: {}; tried again", *index_, last_error_);
    set_state(DeviceState::waiting, last_error_ + "; another one is started");
  }
  ++restarts_;
  dead_ = 0;
  log_begin_ = end_of_kernel_log();
  served_since_ = loop_.now();
  server_->is_ready();
  watch_connections();
  // What died before is no news about the new connections.
  Result<LinkEvents> old = control_.take_events();
  if (!old.ok()) log_.debug("", "{}", old.error().message());
  log_.warning("", "/dev/nbd{}: served again after {:.1f} s, by process {}", *index_,
               std::chrono::duration<double>(loop_.now() - began).count(),
               server_->pid().value_or(0));
  set_state(DeviceState::connected, {});
  keep_spare();
}

// Before end_server(): then its end is ours.
void Attachment::look_for_suspects() {
  if (!traces_.ledger) return;
  if (!server_->ended_of_itself() && !server_->ended_unseen()) return;
  Result<std::vector<LedgerRequest>> under_way = RequestLedger::read(traces_.ledger.get());
  traces_.ledger.reset();
  if (!under_way.ok() || under_way.value().empty()) return;
  std::size_t before = suspects_.refused().size();
  suspects_.died(under_way.value(),
                 server_->ended_unseen() ? Suspects::Cause::unknown : Suspects::Cause::itself);
  for (const LedgerRequest& request : suspects_.refused().subspan(before)) {
    log_.error("", "/dev/nbd{}: every server dies of this request, which fails from now on: {}",
               *index_, describe(request));
  }
  // Another keeper is not to count anew.
  if (!spared_) changed_();
}

// A server, or a child of it, that still runs could write what is older than what its successor
// has written: nothing goes on before they are gone.
Task<void> Attachment::end_server() {
  shut_down_connections();
  co_await server_->stop(true);
  const auto spared = static_cast<pid_t>(spare_ ? spare_->process->pid().value_or(0) : 0);
  for (;;) {
    if (over()) co_await fail(std::errc::operation_canceled);
    Result<std::vector<pid_t>> left =
        co_await loop_.blocking([this, spared] { return end_processes(spared); }).as_result();
    if (over()) co_await fail(std::errc::operation_canceled);
    if (left.ok() && left.value().empty()) co_return;
    std::string reason = fmt::format("waiting for the old server's processes to end: {}",
                                     left.ok() ? list_of(left.value()) : "they are not seen");
    if (reason != reason_) log_.error("", "/dev/nbd{}: {}", *index_, reason);
    set_state(DeviceState::waiting, std::move(reason));
  }
}

// Blocks. Those that are not ours are of a server that another keeper has started.
Result<std::vector<pid_t>> Attachment::end_processes(pid_t spared) const {
  std::vector<pid_t> left = orphans_.end(kOrphansMax, spared);
  if (!left.empty()) return left;
  return server_lock_->end_holders(kOrphansMax);
}

Task<void> Attachment::bring_back() {
  server_ends_.clear();
  if (!traces_.door.empty()) folder_->remove_file(traces_.door);
  if (spare_is_usable()) {
    take_spare();
  } else {
    co_await end_spare();
    server_ = std::make_unique<ServerProcess>(loop_, log_);
    Result<void> started = start_new();
    if (!started.ok()) co_await fail(std::move(started).error());
  }
  HandoffExport info = co_await ask_server();
  Result<void> same = check_same(info);
  if (!same.ok()) co_await fail(std::move(same).error());
  served_ = std::move(info);
  name_door();
  co_await replace_connections();
  if (server_->end().empty()) co_return;
  co_await server_->explain(Error(std::errc::connection_reset, "the server ended"));
}

Result<void> Attachment::check_same(const HandoffExport& successor) const {
  if (successor.identity != export_.identity) {
    return attach_error(ExitCode::identity_mismatch,
                        fmt::format("other data is there now ({} instead of {}), so nothing of it "
                                    "is served",
                                    successor.identity, export_.identity));
  }
  if (successor.size < export_.size) {
    return attach_error(ExitCode::identity_mismatch,
                        fmt::format("the export has {} bytes now instead of {}, so nothing of it "
                                    "is served",
                                    successor.size, export_.size));
  }
  bool flags_lost = (export_.transmission_flags & ~successor.transmission_flags) != 0;
  bool refuses_writes = successor.read_only() && !export_.read_only();
  if (flags_lost || refuses_writes || successor.block_size.minimum > export_.block_size.minimum ||
      successor.survives != export_.survives) {
    return attach_error(ExitCode::identity_mismatch,
                        "the export can do less now than the device promises, so nothing of it is "
                        "served");
  }
  return {};
}

Task<void> Attachment::replace_connections() {
  Nanoseconds until = loop_.now() + kReplaceMax;
  for (;;) {
    co_await hand_over_connections();
    co_await loop_.sleep(kRefusal, gate_);
    drop_refused_connections();
    if (server_ends_.size() == options_.connections || !server_->end().empty()) co_return;
    if (loop_.now() >= until) {
      co_await fail(Error(std::errc::timed_out, "the kernel does not take the new connections"));
    }
    log_.debug("", "/dev/nbd{}: the kernel has not noticed yet that the old server is gone",
               *index_);
  }
}

Task<void> Attachment::hand_over_connections() {
  // Gone at the end of this: the driver has its own.
  std::vector<UniqueFd> kernel_ends;
  co_await give_connections(kernel_ends);
  co_await give_to_kernel(kernel_ends);
}

Task<void> Attachment::give_to_kernel(const std::vector<UniqueFd>& sockets) {
  ReconfigureRequest request;
  request.index = *index_;
  request.backend = backend_;
  for (const UniqueFd& end : sockets) request.sockets.push_back(end.get());
  // A device that is being disconnected must not come to life again.
  while (ending_ && !closed_) co_await loop_.sleep(kPause, gate_);
  if (over()) co_await fail(std::errc::operation_canceled);
  co_await control_.reconfigure(request);
}

void Attachment::give_up(std::string why) {
  set_state(DeviceState::failed,
            fmt::format("{0}; requests wait for {1} s and then fail; mend it, then "
                        "nbdkit-attach --reattach /dev/nbd{2}; or give it up: --detach --force",
                        why, options_.dead_timeout.count(), *index_));
  log_.error("", "/dev/nbd{}: {}", *index_, reason_);
}

Task<void> Attachment::revive(bool force) {
  if (state_ != DeviceState::failed) {
    co_await fail(attach_error(ExitCode::busy, fmt::format("/dev/nbd{} has not been given up: it "
                                                           "is {}",
                                                           *index_, state_name(state_))));
  }
  Result<void> waits = check_dead_timeout(force);
  if (!waits.ok()) co_await fail(std::move(waits).error());
  restart_policy_ = RestartPolicy();
  if (remote_) {
    begin_reconnecting();
  } else {
    begin_recovery(last_error_);
  }
  while (recovering_) co_await loop_.sleep(kPause, gate_);
  if (state_ == DeviceState::failed) {
    co_await fail(attach_error(ExitCode::server_failed, last_error_));
  }
}

Result<void> Attachment::check_dead_timeout(bool force) const {
  DeadTimeout known = dead_timeout_of(*index_, log_begin_);
  if (known == DeadTimeout::waits || force) return {};
  if (known == DeadTimeout::expired) {
    return attach_error(ExitCode::timeout,
                        fmt::format("/dev/nbd{}: no server came within --dead-timeout ({} s), so "
                                    "requests have failed and whoever uses the device has seen "
                                    "errors: unmount and check it; --reattach --force serves it "
                                    "again",
                                    *index_, options_.dead_timeout.count()));
  }
  log_.warning("",
               "/dev/nbd{}: whether requests have failed meanwhile cannot be told: the kernel's "
               "log is not to be had, or not as far back",
               *index_);
  return {};
}

// What is cached can be written back by the next server: worth waiting for.
Task<void> Attachment::wait_for_recovery() {
  Nanoseconds until = loop_.now() + options_.dead_timeout;
  while (recovering_ && loop_.now() < until) co_await loop_.sleep(kPause, gate_);
}

void Attachment::lose(std::string_view what) {
  set_state(DeviceState::lost,
            fmt::format("{}; {}, so every request fails from now on", last_error_, what));
  log_.error("", "/dev/nbd{}: {}", *index_, reason_);
  if (!gate_.enter()) return;
  finish(fail_requests(), [this](Result<void> done) {
    if (!done.ok()) log_.error("", "{}", done.error().message());
    gate_.leave();
  });
}

// Without that they would wait for --dead-timeout, and those under way for ever.
Task<void> Attachment::fail_requests() {
  co_await hold_lost();
  if (!closed_) co_await control_.disconnect(*index_);
}

// The device stays to be seen, with its state, until it is detached.
Task<void> Attachment::hold_lost() {
  auto open = [node = fmt::format("/dev/nbd{}", *index_)]() -> Result<UniqueFd> {
    UniqueFd fd(::open(node.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd) return os_error(node);
    return fd;
  };
  Result<UniqueFd> fd = co_await node_.call(kNodeMax, std::move(open)).as_result();
  if (fd.ok()) lost_node_ = std::move(fd).value();
  if (!fd.ok()) log_.debug("", "{}", fd.error().message());
}

// Ends with whether the device is gone, which it is unless others have it open.
Task<bool> Attachment::release_lost() {
  auto close = [fd = std::move(lost_node_)]() mutable -> Result<void> {
    fd.reset();
    return {};
  };
  Result<void> closed = co_await node_.call(kNodeMax, std::move(close)).as_result();
  if (!closed.ok()) log_.debug("", "{}", closed.error().message());
  DetachTools tools = this->tools();
  co_return co_await wait_until_gone(tools, *index_, kGoneMax);
}

}  // namespace nbdkit
