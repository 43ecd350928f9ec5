// SPDX-License-Identifier: BSD-3-Clause
#include "attach/connection_move.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <optional>
#include <utility>

namespace nbdkit {

std::optional<std::uint64_t> cookie_of(int socket) {
  std::uint64_t cookie;
  socklen_t length = sizeof cookie;
  if (::getsockopt(socket, SOL_SOCKET, SO_COOKIE, &cookie, &length) != 0) return std::nullopt;
  return cookie;
}

ConnectionMove::ConnectionMove(Loop& loop, const std::vector<UniqueFd>& ends, HandoffServe pattern)
    : loop_(loop), ends_(ends), pattern_(std::move(pattern)) {}

Task<void> ConnectionMove::take(HandoffClient& from) {
  Result<std::vector<HandoffListed>> listed = co_await from.list().as_result();
  if (!listed.ok()) {
    co_await fail(
        Error(std::errc::invalid_argument,
              fmt::format("the server does not say what it serves: {}", listed.error().message())));
  }
  std::vector<ConnectionId> ids;
  for (const HandoffListed& one : listed.value()) {
    if (one.kernel && one.transmitting) ids.push_back(one.id);
  }
  if (ids.size() != ends_.size()) {
    co_await fail(Error(std::errc::invalid_argument,
                        fmt::format("the server serves {} of {} connections, so they cannot move",
                                    ids.size(), ends_.size())));
  }
  Result<void> taken = co_await take_all(from, ids).as_result();
  if (taken.ok()) co_return;
  if (is_refusal(taken.error())) co_await restore(from);
  co_await fail(std::move(taken).error());
}

Task<void> ConnectionMove::take_all(HandoffClient& from, const std::vector<ConnectionId>& ids) {
  std::vector<Task<HandoffMoved>> taking;
  for (ConnectionId id : ids) taking.push_back(from.take_over(id, kDrainMax));
  std::optional<Error> problem;
  for (Task<HandoffMoved>& one : taking) {
    Result<HandoffMoved> moved = co_await std::move(one).as_result();
    if (!moved.ok()) {
      // A refusal counts only when all the others are known to be where they were, or here.
      if (!problem || is_refusal(*problem)) problem.emplace(std::move(moved).error());
      continue;
    }
    Result<int> end = end_of(moved.value());
    loop_.close_elsewhere(std::move(moved.value().socket));
    if (end.ok()) {
      stopped_.push_back({end.value(), std::move(moved.value().state)});
    } else {
      problem.emplace(std::move(end).error());
    }
  }
  if (problem) co_await fail(std::move(*problem));
}

// Which of ours it is: what the server says of it belongs to this socket and no other.
Result<int> ConnectionMove::end_of(const HandoffMoved& moved) const {
  std::optional<std::uint64_t> cookie = cookie_of(moved.socket.get());
  for (const UniqueFd& end : ends_) {
    if (cookie && cookie_of(end.get()) == cookie) return end.get();
  }
  return Error(std::errc::protocol_error, "the server gave back a socket that is not the device's");
}

Task<HandoffExport> ConnectionMove::open(HandoffClient& to, const Accept& accept) {
  std::vector<HandoffServe> requests;
  for (const Stopped& one : stopped_) {
    requests.push_back(pattern_);
    requests.back().state = one.state;
    requests.back().hold = true;
  }
  std::vector<Task<HandoffServed>> opening;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    opening.push_back(to.serve(stopped_[i].end, requests[i]));
  }
  HandoffExport info;
  std::optional<Error> problem;
  for (Task<HandoffServed>& one : opening) {
    Result<HandoffServed> served = co_await std::move(one).as_result();
    if (served.ok()) {
      held_.push_back(served.value().id);
      info = std::move(*served.value().info);
      Result<void> accepted = accept(info);
      if (!accepted.ok()) problem.emplace(std::move(accepted).error());
    } else {
      problem.emplace(std::move(served).error());
    }
  }
  if (problem) co_await fail(std::move(*problem));
  co_return info;
}

Task<void> ConnectionMove::go_on(HandoffClient& to) {
  std::vector<Task<void>> going;
  for (ConnectionId id : held_) going.push_back(to.go_on(id));
  std::optional<Error> problem;
  for (Task<void>& one : going) {
    Result<void> gone_on = co_await std::move(one).as_result();
    if (!gone_on.ok()) problem.emplace(std::move(gone_on).error());
  }
  if (problem) co_await fail(std::move(*problem));
}

Task<void> ConnectionMove::abandon(HandoffClient& to) {
  for (ConnectionId id : held_) co_await to.abandon(id);
  held_.clear();
}

Task<void> ConnectionMove::restore(HandoffClient& from) {
  for (const Stopped& one : stopped_) {
    HandoffServe request = pattern_;
    request.state = one.state;
    Result<HandoffServed> served = co_await from.serve(one.end, request).as_result();
    if (served.ok()) continue;
    co_await fail(Error(std::errc::io_error, fmt::format("the server does not take its connections "
                                                         "back: {}",
                                                         served.error().message())));
  }
  stopped_.clear();
}

}  // namespace nbdkit
