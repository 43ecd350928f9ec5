// SPDX-License-Identifier: BSD-3-Clause
// Connections that die while their server lives: a request took longer than the driver waits, or
// the server has closed them. They are replaced as soon as the server has finished what was asked
// on them: what it still writes must not come over what is written on the new ones.
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "attach/attachment.h"

namespace nbdkit {
namespace {

constexpr Milliseconds kTurn{1};
constexpr Milliseconds kUnfinishedPause{100};

bool has_hung_up(const UniqueFd& end) {
  pollfd poll{end.get(), POLLRDHUP, 0};
  return ::poll(&poll, 1, 0) == 1 && (poll.revents & (POLLHUP | POLLRDHUP)) != 0;
}

bool is_listed(const UniqueFd& end, const std::vector<HandoffListed>& listed) {
  const std::optional<std::uint64_t> cookie = cookie_of(end.get());
  return cookie && std::any_of(listed.begin(), listed.end(),
                               [cookie](const HandoffListed& one) { return one.cookie == cookie; });
}

std::size_t kernel_connections(const std::vector<HandoffListed>& listed) {
  return static_cast<std::size_t>(std::count_if(
      listed.begin(), listed.end(), [](const HandoffListed& one) { return one.kernel; }));
}

}  // namespace

// With --timeout a request that takes longer is to fail, and not to be tried for ever.
bool Attachment::replaces_connections() const {
  return server_->has_handoff() && options_.request_timeout == Seconds(0);
}

// The driver sees what the server closes only when nobody has it any more, and we do.
void Attachment::watch_connections() {
  if (!replaces_connections() || !gate_.enter()) return;
  auto ended = [this] {
    if (made_) begin_replacing();
  };
  finish(server_->handoff().subscribe(std::move(ended)), [this](Result<void> done) {
    if (!done.ok()) log_.debug("", "{}", done.error().message());
    gate_.leave();
  });
}

// The driver takes as many sockets as it knows to be dead, says that all is well, and closes the
// others: that can be seen at our end.
void Attachment::drop_refused_connections() { std::erase_if(server_ends_, has_hung_up); }

void Attachment::connections_died(unsigned count) {
  dead_ = std::min(options_.connections, dead_ + count);
  if (replaces_connections()) return begin_replacing();
  tell_of_dead(dead_ < options_.connections
                   ? fmt::format("{} of {} connections are dead", dead_, options_.connections)
                   : "every connection is dead, though the server runs");
  log_.error("", "/dev/nbd{}: {}", *index_, reason_);
}

void Attachment::tell_of_dead(std::string why) {
  DeviceState all = replaces_connections() ? DeviceState::waiting : DeviceState::failed;
  set_state(dead_ < options_.connections ? DeviceState::degraded : all, std::move(why));
}

void Attachment::begin_replacing() {
  // Whoever is at it, or ends the change, looks at all of them.
  if (closed_ || ending_ || recovering_ || change_ != Change::none || !attached_) return;
  if (!replaces_connections() || !server_->end().empty() || !gate_.enter()) return;
  recovering_ = true;
  finish(replace_dead_connections(), [this](Result<void> done) {
    if (!done.ok()) log_.debug("", "{}", done.error().message());
    recovering_ = false;
    gate_.leave();
    if (!closed_ && !server_->end().empty()) server_ended();
  });
}

// Ends when every connection is served, when the server has ended, or when it is given up; with an
// Error when the device is being closed.
Task<void> Attachment::replace_dead_connections() {
  co_await loop_.sleep(kTurn, gate_);
  co_await await_finished();
  if (server_ends_.size() == options_.connections || !server_->end().empty()) co_return;
  restart_policy_.has_served(loop_.now() - served_since_);
  while (server_ends_.size() < options_.connections) {
    log_.error("", "/dev/nbd{}: {}; they are made again", *index_, last_error_);
    std::optional<Nanoseconds> delay = restart_policy_.next_delay(loop_.now());
    if (!delay) {
      give_up(fmt::format("connections have not lived {} times in a row: {}",
                          RestartPolicy::kStartsMax, last_error_));
      co_return;
    }
    co_await loop_.sleep(*delay + kTurn, gate_);
    Result<void> replaced = co_await replace_connections().as_result();
    if (over()) co_await fail(std::errc::operation_canceled);
    if (!server_->end().empty()) co_return;
    if (!replaced.ok()) last_error_ = replaced.error().message();
    co_await await_finished();
  }
  dead_ = 0;
  served_since_ = loop_.now();
  // What died before is no news about the new ones.
  Result<LinkEvents> old = control_.take_events();
  if (!old.ok()) log_.debug("", "{}", old.error().message());
  log_.warning("", "/dev/nbd{}: every connection is there again", *index_);
  set_state(DeviceState::connected, {});
}

void Attachment::drop_unserved(const std::vector<HandoffListed>& listed) {
  std::erase_if(server_ends_, [&](const UniqueFd& end) {
    if (is_listed(end, listed)) return false;
    ::shutdown(end.get(), SHUT_RDWR);
    return true;
  });
}

// Until the server has ended what is dead, however long that takes; then server_ends_ has the
// others.
Task<void> Attachment::await_finished() {
  for (;;) {
    if (over()) co_await fail(std::errc::operation_canceled);
    if (!server_->end().empty()) co_return;
    Result<std::vector<HandoffListed>> listed = co_await server_->handoff().list().as_result();
    if (listed.ok()) drop_unserved(listed.value());
    const auto there =
        static_cast<unsigned>(std::count_if(server_ends_.begin(), server_ends_.end(),
                                            [](const UniqueFd& end) { return !has_hung_up(end); }));
    // Also of those that an earlier keeper has known.
    const bool finished = listed.ok() && kernel_connections(listed.value()) <= there;
    dead_ = options_.connections - there;
    if (finished && dead_ == 0) co_return;
    last_error_ = fmt::format("{} of {} connections lost", dead_, options_.connections);
    tell_of_dead(last_error_ + (finished ? "; they are made again"
                                         : "; the server has not finished what was asked there"));
    if (finished) co_return;
    co_await loop_.sleep(kUnfinishedPause, gate_);
  }
}

}  // namespace nbdkit
