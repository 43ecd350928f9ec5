// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/handoff_control.h"

#include <fmt/format.h>

#include <utility>

#include "async/post.h"
#include "base/check.h"
#include "handoff/connection_verbs.h"

namespace nbdkit {

HandoffControl::HandoffControl(Loop& loop, Server& server, Log& log, const HandoffTerms& terms,
                               UniqueFd socket, uid_t user)
    : loop_(loop),
      server_(server),
      log_(log),
      socket_(std::move(socket)),
      user_(user),
      requests_(server, terms, user),
      gate_(loop) {}

HandoffControl::~HandoffControl() { NBDKIT_CHECK(!started_); }

Result<void> HandoffControl::start(std::function<void()> lost) {
  lost_ = std::move(lost);
  watched_ = EPOLLIN;
  NBDKIT_TRY(loop_.watch(socket_.get(), watched_, *this));
  started_ = true;
  return {};
}

Task<void> HandoffControl::stop() {
  lost_ = nullptr;
  lose();
  co_await gate_.drained();
}

void HandoffControl::lose() {
  if (!std::exchange(started_, false)) return;
  loop_.unwatch(socket_.get(), *this);
  if (std::exchange(subscribed_, false)) server_.unobserve(*this);
  for (Outgoing& outgoing : std::exchange(waiting_, {})) serve_on(std::move(outgoing.reply));
  if (auto lost = std::exchange(lost_, nullptr)) lost();
}

// Nobody has taken the answer with this socket: its client must not suffer for that.
void HandoffControl::serve_on(HandoffReply reply) {
  if (!reply.descriptor) return;
  auto start = [&server = server_, &log = log_, options = std::move(*reply.again),
                fd = reply.descriptor.release()]() mutable {
    finish(server.start(UniqueFd(fd), std::move(options)), [&log](Result<Started> started) {
      if (!started.ok()) log.error("handoff", "{}", started.error().message());
    });
  };
  post(loop_, std::move(start));
}

void HandoffControl::ready(std::uint32_t epoll_events) noexcept {
  if ((epoll_events & EPOLLOUT) != 0) send_waiting();
  if (started_ && (epoll_events & ~EPOLLOUT) != 0) read_requests();
  // With no room for requests the end of the socket is not read, and epoll would tell of it for
  // ever: whoever went without his answers does not need them.
  if (started_ && (epoll_events & (EPOLLHUP | EPOLLERR)) != 0) lose();
  if (started_) update_watch();
}

void HandoffControl::update_watch() {
  std::uint32_t wanted = (has_room() ? EPOLLIN : 0u) | (waiting_.empty() ? 0u : EPOLLOUT);
  if (wanted == watched_) return;
  watched_ = wanted;
  loop_.change_watch(socket_.get(), wanted, *this);
}

void HandoffControl::read_requests() {
  while (started_ && has_room()) {
    Result<HandoffPacket> packet = receive_handoff(socket_.get());
    if (packet.ok()) {
      take(std::move(packet).value());
    } else if (packet.error().code == std::errc::resource_unavailable_try_again) {
      return;
    } else {
      log_.debug("handoff", "{}", packet.error().message());
      return lose();
    }
  }
}

void HandoffControl::take(HandoffPacket packet) {
  std::uint64_t sequence = 0;
  auto parsed = parse_handoff(packet, sequence);
  if (auto* problem = std::get_if<HandoffProblem>(&parsed)) {
    for (UniqueFd& fd : packet.descriptors) loop_.close_elsewhere(std::move(fd));
    return answer_problem(sequence, *problem);
  }
  auto message = std::make_unique<HandoffMessage>(std::move(std::get<HandoffMessage>(parsed)));
  if (!gate_.enter()) return loop_.close_elsewhere(std::move(message->descriptor));
  finish(carry_out(std::move(message)), [this](Result<void>) {
    gate_.leave();
    if (started_) update_watch();
  });
}

Task<void> HandoffControl::carry_out(std::unique_ptr<HandoffMessage> message) {
  HandoffReply reply;
  std::optional<HandoffProblem> problem;
  if (!subscribe(*message, problem)) problem = co_await requests_.carry_out(*message, reply);
  loop_.close_elsewhere(std::move(message->descriptor));
  if (problem) {
    answer_problem(message->sequence, *problem);
  } else {
    answer({HandoffKind::answer, message->sequence, std::move(reply)});
  }
}

// Whether that was what the message asked for.
bool HandoffControl::subscribe(const HandoffMessage& message,
                               std::optional<HandoffProblem>& problem) {
  const Json* verb = message.body.find("verb");
  bool asked = message.kind == HandoffKind::request && !message.descriptor && verb != nullptr &&
               verb->as_string() != nullptr && *verb->as_string() == "subscribe";
  if (!asked) return false;
  Result<void> parsed = parse_subscribe(message.body);
  if (!parsed.ok()) {
    problem = HandoffProblem{HandoffFault::unknown_key, parsed.error().message()};
  } else if (started_ && !std::exchange(subscribed_, true)) {
    server_.observe(*this);
  }
  return true;
}

void HandoffControl::began(const ConnectionView& connection) {
  if (requests_.may_see(connection)) tell(began_event(connection));
}

void HandoffControl::ended(const ConnectionView& connection, ConnectionEnd end) {
  if (requests_.may_see(connection)) tell(ended_event(connection.id, end));
}

void HandoffControl::stopping() { tell(stopping_event()); }

void HandoffControl::tell(Json event) {
  // In order: what is missing is told of before anything else.
  if (missed_ > 0 || waiting_.size() - answers_ >= kEventsMax) {
    ++missed_;
    return;
  }
  HandoffReply reply;
  reply.body = std::move(event);
  answer({HandoffKind::event, 0, std::move(reply)});
}

void HandoffControl::answer_problem(std::uint64_t sequence, const HandoffProblem& problem) {
  HandoffReply reply;
  reply.body.set("code", fault_name(problem.fault)).set("message", problem.sentence);
  answer({HandoffKind::error, sequence, std::move(reply)});
}

void HandoffControl::answer(Outgoing outgoing) {
  if (!started_) return serve_on(std::move(outgoing.reply));  // Nobody listens any more.
  answers_ += outgoing.kind != HandoffKind::event;
  waiting_.push_back(std::move(outgoing));
  send_waiting();
}

void HandoffControl::send_waiting() {
  while (started_ && !waiting_.empty()) {
    const Outgoing& next = waiting_.front();
    Result<void> sent = send_handoff(socket_.get(), next.kind, next.sequence, next.reply.body,
                                     next.reply.descriptor.get());
    if (!sent.ok() && sent.error().code == std::errc::resource_unavailable_try_again) break;
    if (!sent.ok()) {
      log_.debug("handoff", "{}", sent.error().message());
      return lose();
    }
    answers_ -= next.kind != HandoffKind::event;
    loop_.close_elsewhere(std::move(waiting_.front().reply.descriptor));
    waiting_.pop_front();
  }
  if (started_ && waiting_.empty() && missed_ > 0) {
    HandoffReply reply;
    reply.body = missed_event(std::exchange(missed_, 0));
    return answer({HandoffKind::event, 0, std::move(reply)});
  }
  if (started_) update_watch();
}

}  // namespace nbdkit
