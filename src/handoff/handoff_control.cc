// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/handoff_control.h"

#include <fmt/format.h>

#include <utility>

#include "handoff/descriptor_rules.h"
#include "proto/handshake.h"

namespace nbdkit {
namespace {

Json error_body(const HandoffProblem& problem) {
  Json body = Json::object();
  body.set("code", fault_name(problem.fault)).set("message", problem.sentence);
  return body;
}

// parse_query() and parse_serve() tell the two kinds of fault apart by the code.
HandoffProblem to_problem(const Error& error) {
  bool unknown = error.code == std::errc::not_supported;
  return {unknown ? HandoffFault::unknown_key : HandoffFault::bad_value, error.message()};
}

HandoffProblem open_problem(const Error& error, const std::string& export_name) {
  bool missing = error.code == std::errc::no_such_file_or_directory;
  return {missing ? HandoffFault::no_such_export : HandoffFault::failed,
          fmt::format("export \"{}\": {}", export_name, error.message())};
}

Result<void> check_expectation(const HandoffServe& serve, const ExportInfo& info) {
  if (serve.size && *serve.size != info.size) {
    return Error(std::errc::invalid_argument,
                 fmt::format("the export has {} bytes, not {}", info.size, *serve.size));
  }
  if (!serve.flags) return {};
  if ((*serve.flags & ~info.transmission_flags) != 0) {
    return Error(std::errc::invalid_argument,
                 fmt::format("the export has the transmission flags {:#x}, not {:#x}",
                             info.transmission_flags, *serve.flags));
  }
  // The one flag whose absence promises something.
  if ((info.transmission_flags & ~*serve.flags & transmission_flag::kReadOnly) != 0) {
    return Error(std::errc::invalid_argument, "the export is read-only");
  }
  return {};
}

HandoffExport to_export(const ExportInfo& info, const Contract& contract) {
  HandoffExport result;
  result.size = info.size;
  result.transmission_flags = info.transmission_flags;
  result.block_size = info.block_size;
  result.maximum_payload = kPayloadMax;
  result.multi_conn = (info.transmission_flags & transmission_flag::kMultiConn) != 0;
  result.identity = info.identity;
  result.description = info.description;
  // What nobody can change, nobody can lose.
  bool read_only = (info.transmission_flags & transmission_flag::kReadOnly) != 0;
  result.survives = read_only ? Survives::durable : contract.survives;
  result.shared_open = contract.shared_open;
  result.swap_fit = contract.swap_fit;
  return result;
}

}  // namespace

HandoffControl::HandoffControl(Loop& loop, Server& server, Log& log, Contract contract,
                               UniqueFd socket)
    : loop_(loop),
      server_(server),
      log_(log),
      contract_(contract),
      socket_(std::move(socket)),
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
  waiting_.clear();
  if (auto lost = std::exchange(lost_, nullptr)) lost();
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
  bool room = gate_.inside() + waiting_.size() < kRequestsMax;
  std::uint32_t wanted = (room ? EPOLLIN : 0u) | (waiting_.empty() ? 0u : EPOLLOUT);
  if (wanted == watched_) return;
  watched_ = wanted;
  loop_.change_watch(socket_.get(), wanted, *this);
}

void HandoffControl::read_requests() {
  while (started_ && gate_.inside() + waiting_.size() < kRequestsMax) {
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
    for (UniqueFd& fd : packet.descriptors) close_on_worker(loop_, std::move(fd));
    return answer({HandoffKind::error, sequence, error_body(*problem)});
  }
  auto message = std::make_unique<HandoffMessage>(std::move(std::get<HandoffMessage>(parsed)));
  if (!gate_.enter()) return close_on_worker(loop_, std::move(message->descriptor));
  finish(carry_out(std::move(message)), [this](Result<void>) {
    gate_.leave();
    if (started_) update_watch();
  });
}

Task<void> HandoffControl::carry_out(std::unique_ptr<HandoffMessage> message) {
  Json reply = Json::object();
  std::optional<HandoffProblem> problem;
  const Json* verb = message->body.find("verb");
  const std::string* name = verb != nullptr ? verb->as_string() : nullptr;
  if (message->kind != HandoffKind::request || name == nullptr) {
    problem = HandoffProblem{HandoffFault::bad_message, "a request with a verb is expected"};
  } else if (*name == "serve") {
    problem = co_await serve(*message, reply);
  } else if (message->descriptor) {
    problem = HandoffProblem{HandoffFault::unexpected_descriptor,
                             fmt::format("the verb {} takes no descriptor", *name)};
  } else if (*name == "query") {
    problem = co_await query(message->body, reply);
  } else {
    problem = HandoffProblem{HandoffFault::unknown_verb, fmt::format("{}: no such verb", *name)};
  }
  close_on_worker(loop_, std::move(message->descriptor));
  if (problem) {
    answer({HandoffKind::error, message->sequence, error_body(*problem)});
  } else {
    answer({HandoffKind::answer, message->sequence, std::move(reply)});
  }
}

Task<std::optional<HandoffProblem>> HandoffControl::query(const Json& body, Json& reply) {
  Result<HandoffQuery> asked = parse_query(body);
  if (!asked.ok()) co_return to_problem(asked.error());
  const std::string name = asked.value().export_name;
  Result<ExportInfo> info = co_await server_.query(name, asked.value().kernel).as_result();
  if (!info.ok()) co_return open_problem(info.error(), name);
  reply = to_json(to_export(info.value(), contract_));
  co_return std::nullopt;
}

Task<std::optional<HandoffProblem>> HandoffControl::serve(HandoffMessage& message, Json& reply) {
  Result<HandoffServe> asked = parse_serve(message.body);
  if (!asked.ok()) co_return to_problem(asked.error());
  const HandoffServe serve = std::move(asked).value();
  if (!message.descriptor) {
    co_return HandoffProblem{HandoffFault::no_descriptor, "serve needs a socket"};
  }
  Result<void> usable = check_stream_socket(message.descriptor.get());
  if (!usable.ok()) {
    co_return HandoffProblem{HandoffFault::bad_descriptor, usable.error().message()};
  }
  bool transmission = serve.mode == HandoffServe::Mode::transmission;
  bool mismatch = false;
  StartOptions options;
  options.mode = transmission ? StartOptions::Mode::transmission : StartOptions::Mode::handshake;
  options.export_name = serve.export_name;
  options.kernel = serve.kernel;
  options.foreign = true;
  options.accept = [&serve, &mismatch](const ExportInfo& info) {
    Result<void> expected = check_expectation(serve, info);
    mismatch = !expected.ok();
    return expected;
  };
  Task<Started> starting = server_.start(std::move(message.descriptor), std::move(options));
  Result<Started> started = co_await std::move(starting).as_result();
  if (!started.ok() && mismatch) {
    co_return HandoffProblem{HandoffFault::mismatch, started.error().message()};
  }
  if (!started.ok()) co_return open_problem(started.error(), serve.export_name);
  HandoffServed served;
  served.id = started.value().id;
  if (transmission) served.info = to_export(started.value().info, contract_);
  reply = to_json(served);
  co_return std::nullopt;
}

void HandoffControl::answer(Outgoing outgoing) {
  if (!started_) return;  // Nobody listens any more.
  waiting_.push_back(std::move(outgoing));
  send_waiting();
}

void HandoffControl::send_waiting() {
  while (started_ && !waiting_.empty()) {
    const Outgoing& next = waiting_.front();
    Result<void> sent = send_handoff(socket_.get(), next.kind, next.sequence, next.body);
    if (!sent.ok() && sent.error().code == std::errc::resource_unavailable_try_again) break;
    if (!sent.ok()) {
      log_.debug("handoff", "{}", sent.error().message());
      return lose();
    }
    waiting_.pop_front();
  }
  if (started_) update_watch();
}

}  // namespace nbdkit
