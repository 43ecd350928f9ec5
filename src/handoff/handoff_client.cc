// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/handoff_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <coroutine>
#include <optional>
#include <utility>

#include "base/check.h"

namespace nbdkit {
namespace {

// The server's sentence goes to a terminal and a log.
std::string one_line(std::string text) {
  constexpr std::size_t kSentenceMax = 1024;
  if (text.size() > kSentenceMax) text.resize(kSentenceMax);
  std::replace_if(
      text.begin(), text.end(),
      [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; }, '?');
  return text;
}

std::errc code_of(std::string_view fault) {
  if (fault == fault_name(HandoffFault::timeout)) return std::errc::resource_unavailable_try_again;
  bool unknown = fault == fault_name(HandoffFault::unknown_verb) ||
                 fault == fault_name(HandoffFault::unknown_key) ||
                 fault == fault_name(HandoffFault::unsupported_version);
  return unknown ? std::errc::not_supported : std::errc::invalid_argument;
}

}  // namespace

bool is_refusal(const Error& error) {
  return error.code == std::errc::invalid_argument || error.code == std::errc::not_supported ||
         error.code == std::errc::resource_unavailable_try_again;
}

// One call, from its request to its answer or its end. Lives in the caller's coroutine.
class HandoffClient::Exchange final : public Timer, public Job {
 public:
  Exchange(HandoffClient& client, std::uint64_t sequence, Nanoseconds limit, Brings brings)
      : client_(client), sequence_(sequence), brings_(brings) {
    client_.exchanges_.emplace(sequence_, this);
    client_.loop_.timers().arm(*this, client_.loop_.now() + limit);
  }
  virtual ~Exchange() { client_.exchanges_.erase(sequence_); }

  bool await_ready() const noexcept { return result_.has_value(); }
  void await_suspend(std::coroutine_handle<> waiter) noexcept { waiter_ = waiter; }
  Result<Answer> await_resume() { return std::move(*result_); }
  Brings brings() const { return brings_; }

  void end(Result<Answer> result) {
    if (result_) return;
    result_.emplace(std::move(result));
    client_.loop_.timers().disarm(*this);
    if (waiter_) client_.loop_.defer(*this);
  }

 private:
  void expired() noexcept override {
    end(Error(std::errc::timed_out, "the server did not answer in time"));
  }
  void run() noexcept override { waiter_.resume(); }

  HandoffClient& client_;
  const std::uint64_t sequence_;
  const Brings brings_;
  std::coroutine_handle<> waiter_;
  std::optional<Result<Answer>> result_;
};

HandoffClient::HandoffClient(Loop& loop, UniqueFd socket)
    : loop_(loop), socket_(std::move(socket)) {}

HandoffClient::~HandoffClient() {
  NBDKIT_CHECK(exchanges_.empty());
  close();
}

Result<void> HandoffClient::start(std::function<void(Error)> lost) {
  lost_ = std::move(lost);
  NBDKIT_TRY(loop_.watch(socket_.get(), EPOLLIN, *this));
  watching_ = true;
  return {};
}

void HandoffClient::close() {
  lost_ = nullptr;
  ended_ = nullptr;
  lose(Error(std::errc::operation_canceled, "the connection to the server is closed"));
  socket_.reset();
}

void HandoffClient::lose(Error error) {
  if (std::exchange(watching_, false)) loop_.unwatch(socket_.get(), *this);
  for (auto& [sequence, exchange] : exchanges_) {
    exchange->end(Error(error.code, std::string(error.detail())));
  }
  if (auto lost = std::exchange(lost_, nullptr)) lost(std::move(error));
}

void HandoffClient::ready(std::uint32_t) noexcept {
  while (watching_) {
    Result<HandoffPacket> packet = receive_handoff(socket_.get());
    if (!packet.ok()) {
      if (packet.error().code == std::errc::resource_unavailable_try_again) return;
      return lose(Error(std::errc::connection_reset, "the server has gone"));
    }
    std::uint64_t sequence = 0;
    auto parsed = parse_handoff(packet.value(), sequence);
    if (auto* problem = std::get_if<HandoffProblem>(&parsed)) {
      for (UniqueFd& fd : packet.value().descriptors) loop_.close_elsewhere(std::move(fd));
      return lose(Error(std::errc::protocol_error,
                        fmt::format("the server's message is no good: {}", problem->sentence)));
    }
    take(std::get<HandoffMessage>(parsed));
  }
}

void HandoffClient::take(HandoffMessage& message) {
  auto found = exchanges_.find(message.sequence);
  bool known = found != exchanges_.end();
  bool brings =
      known && found->second->brings() == Brings::socket && message.kind == HandoffKind::answer;
  if (message.descriptor && !brings) {
    loop_.close_elsewhere(std::move(message.descriptor));
    // The answer to a call that has timed out meanwhile is no fault of the server's.
    if (!known) return;
    return lose(Error(std::errc::protocol_error, "the server sent a descriptor, uncalled for"));
  }
  if (message.kind == HandoffKind::event) return take_event(message.body);
  if (!known) return;
  if (message.kind == HandoffKind::answer) {
    return found->second->end(Answer{std::move(message.body), std::move(message.descriptor)});
  }
  const Json* code = message.body.find("code");
  const Json* sentence = message.body.find("message");
  const std::string* code_text = code != nullptr ? code->as_string() : nullptr;
  const std::string* text = sentence != nullptr ? sentence->as_string() : nullptr;
  if (message.kind != HandoffKind::error || code_text == nullptr || text == nullptr) {
    return lose(Error(std::errc::protocol_error, "the server sent what is no answer"));
  }
  found->second->end(Error(code_of(*code_text), one_line(*text)));
}

// Those that were missed may have been about an end, too.
void HandoffClient::take_event(const Json& body) {
  const Json* name = body.find("event");
  const std::string* text = name != nullptr ? name->as_string() : nullptr;
  if (ended_ && text != nullptr && (*text == "ended" || *text == "missed")) ended_();
}

Task<Json> HandoffClient::exchange(Json body, int descriptor, Nanoseconds limit) {
  Answer answer = co_await exchange_with(std::move(body), descriptor, limit, Brings::nothing);
  co_return std::move(answer.body);
}

Task<HandoffClient::Answer> HandoffClient::exchange_with(Json body, int descriptor,
                                                         Nanoseconds limit, Brings brings) {
  if (!watching_) co_await fail(Error(std::errc::connection_reset, "the server is gone"));
  std::uint64_t sequence = next_sequence_++;
  Exchange waiting(*this, sequence, limit, brings);
  // A full socket means that dozens of requests wait: the caller's mistake, not one to wait for.
  Result<void> sent = send_handoff(socket_.get(), HandoffKind::request, sequence, body, descriptor);
  if (!sent.ok()) co_await fail(std::move(sent).error());
  Result<Answer> answer = co_await waiting;
  if (!answer.ok()) co_await fail(std::move(answer).error());
  co_return std::move(answer).value();
}

Task<void> HandoffClient::go_on(ConnectionId id, Nanoseconds limit) {
  co_await exchange(Json::object().set("verb", "go-on").set("id", id), -1, limit);
}

Task<void> HandoffClient::abandon(ConnectionId id, Nanoseconds limit) {
  Json body = Json::object();
  body.set("verb", "close").set("id", id).set("drain", false);
  co_await exchange(std::move(body), -1, limit);
}

Task<std::vector<HandoffListed>> HandoffClient::list(Nanoseconds limit) {
  Json answer = co_await exchange(Json::object().set("verb", "list"), -1, limit);
  Result<std::vector<HandoffListed>> listed = parse_listed(answer);
  if (!listed.ok()) co_await fail(std::move(listed).error());
  co_return std::move(listed).value();
}

Task<RequestFigures> HandoffClient::figures(std::optional<bool> kernel, Nanoseconds limit) {
  HandoffFigures request{kernel};
  Json answer = co_await exchange(to_json(request), -1, limit);
  Result<RequestFigures> figures = parse_figures(answer);
  if (!figures.ok()) co_await fail(std::move(figures).error());
  co_return std::move(figures).value();
}

Task<void> HandoffClient::subscribe(std::function<void()> ended, Nanoseconds limit) {
  ended_ = std::move(ended);
  co_await exchange(Json::object().set("verb", "subscribe"), -1, limit);
}

Result<HandoffMoved> HandoffClient::moved_by(Answer answer) {
  Result<HandoffMoved> moved = parse_moved(answer.body);
  if (!moved.ok()) return moved;
  if (!answer.descriptor) {
    return Error(std::errc::protocol_error, "the server's answer came without the socket");
  }
  moved.value().socket = std::move(answer.descriptor);
  return moved;
}

Task<HandoffMoved> HandoffClient::take_over(ConnectionId id, Milliseconds limit) {
  // Within it the server answers one way or the other.
  constexpr Seconds kMargin{5};
  Json body = Json::object();
  body.set("verb", "take-over").set("id", id).set("limit_ms", limit.count());
  Answer answer = co_await exchange_with(std::move(body), -1, limit + kMargin, Brings::socket);
  co_return moved_by(std::move(answer));
}

Task<HandoffExport> HandoffClient::query(const HandoffQuery& request, Nanoseconds limit) {
  Json answer = co_await exchange(to_json(request), -1, limit);
  Result<HandoffExport> info = parse_export(answer);
  if (!info.ok()) co_await fail(std::move(info).error());
  co_return std::move(info).value();
}

Task<HandoffServed> HandoffClient::serve(int socket, const HandoffServe& request,
                                         Nanoseconds limit) {
  Json answer = co_await exchange(to_json(request), socket, limit);
  Result<HandoffServed> served = parse_served(answer, request.mode);
  if (!served.ok()) co_await fail(std::move(served).error());
  co_return std::move(served).value();
}

}  // namespace nbdkit
