// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/connection_verbs.h"

#include <fmt/format.h>

#include <limits>
#include <optional>
#include <utility>

#include "handoff/request_keys.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kIdMax = std::numeric_limits<std::uint64_t>::max();

std::string_view mode_name(StartOptions::Mode mode) {
  return mode == StartOptions::Mode::handshake ? "handshake" : "transmission";
}

std::string_view phase_name(ConnectionView::Phase phase) {
  switch (phase) {
    case ConnectionView::Phase::handshake:
      return "handshake";
    case ConnectionView::Phase::held:
      return "held";
    case ConnectionView::Phase::transmission:
      return "transmission";
    case ConnectionView::Phase::ending:
      break;
  }
  return "ending";
}

std::string_view end_name(ConnectionEnd end) {
  switch (end) {
    case ConnectionEnd::disconnected:
      return "disconnected";
    case ConnectionEnd::closed:
      return "closed";
    case ConnectionEnd::failed:
      return "failed";
    case ConnectionEnd::stopped:
      return "stopped";
    case ConnectionEnd::moved:
      break;
  }
  return "moved";
}

std::string_view peer_name(bool kernel) { return kernel ? "kernel" : "client"; }

Error no_valid(std::string_view key) {
  return Error(std::errc::protocol_error, fmt::format("the server's answer has no valid {}", key));
}

std::optional<std::uint64_t> unsigned_of(const Json& body, std::string_view key) {
  const Json* value = body.find(key);
  return value != nullptr ? value->as_unsigned() : std::nullopt;
}

std::string text_of(const Json& body, std::string_view key) {
  const Json* value = body.find(key);
  return value != nullptr && value->as_string() != nullptr ? *value->as_string() : std::string();
}

Json event(std::string_view name) {
  Json body = Json::object();
  body.set("event", name);
  return body;
}

}  // namespace

Result<HandoffList> parse_list(const Json& body) {
  NBDKIT_TRY(only_keys(body, {"verb", "after"}));
  Result<std::uint64_t> after = number_key(body, "after", 0, kIdMax, 0);
  if (!after.ok()) return std::move(after).error();
  return HandoffList{after.value()};
}

Result<HandoffClose> parse_close(const Json& body) {
  NBDKIT_TRY(only_keys(body, {"verb", "id", "drain"}));
  Result<std::uint64_t> id = number_key(body, "id", 0, kIdMax, std::nullopt);
  if (!id.ok()) return std::move(id).error();
  Result<bool> drain = bool_key(body, "drain", true);
  if (!drain.ok()) return std::move(drain).error();
  return HandoffClose{id.value(), drain.value()};
}

Result<HandoffTakeOver> parse_take_over(const Json& body) {
  NBDKIT_TRY(only_keys(body, {"verb", "id", "limit_ms"}));
  Result<std::uint64_t> id = number_key(body, "id", 0, kIdMax, std::nullopt);
  if (!id.ok()) return std::move(id).error();
  Result<std::uint64_t> limit =
      number_key(body, "limit_ms", 1, HandoffTakeOver::kLimitMax.count(),
                 static_cast<std::uint64_t>(HandoffTakeOver::kLimitDefault.count()));
  if (!limit.ok()) return std::move(limit).error();
  return HandoffTakeOver{id.value(), Milliseconds(limit.value())};
}

Result<ConnectionId> parse_go_on(const Json& body) {
  NBDKIT_TRY(only_keys(body, {"verb", "id"}));
  return number_key(body, "id", 0, kIdMax, std::nullopt);
}

Result<void> parse_subscribe(const Json& body) { return only_keys(body, {"verb"}); }

Json to_json(const ConnectionView& connection) {
  Json body = Json::object();
  body.set("id", connection.id)
      .set("user", connection.owner ? Json(*connection.owner) : Json())
      .set("mode", mode_name(connection.mode))
      .set("phase", phase_name(connection.phase))
      .set("export", connection.export_name)
      .set("peer", peer_name(connection.kernel))
      .set("cookie", connection.cookie ? Json(*connection.cookie) : Json());
  return body;
}

Json to_json(ConnectionId id, const MovedConnection& moved) {
  Json body = Json::object();
  body.set("id", id)
      .set("export", moved.export_name)
      .set("peer", peer_name(moved.kernel))
      .set("size", moved.info.size)
      .set("flags", moved.info.transmission_flags)
      .set("state", to_json(HandoffState{moved.agreement, moved.unread}));
  return body;
}

Result<std::vector<HandoffListed>> parse_listed(const Json& body) {
  const Json* found = body.find("connections");
  const Json::Array* items = found != nullptr ? found->as_array() : nullptr;
  if (items == nullptr) return no_valid("connections");
  std::vector<HandoffListed> listed;
  for (const Json& item : *items) {
    std::optional<std::uint64_t> id = unsigned_of(item, "id");
    if (!id) return no_valid("id");
    listed.push_back({*id, text_of(item, "peer") == peer_name(true),
                      text_of(item, "phase") == phase_name(ConnectionView::Phase::transmission),
                      unsigned_of(item, "cookie")});
  }
  return listed;
}

Result<HandoffMoved> parse_moved(const Json& body) {
  HandoffMoved moved;
  moved.export_name = text_of(body, "export");
  std::optional<std::uint64_t> size = unsigned_of(body, "size");
  std::optional<std::uint64_t> flags = unsigned_of(body, "flags");
  const Json* state = body.find("state");
  if (!size) return no_valid("size");
  if (!flags || *flags > 0xffff) return no_valid("flags");
  if (state == nullptr) return no_valid("state");
  Result<HandoffState> parsed = parse_state(*state);
  if (!parsed.ok()) return no_valid("state");
  moved.size = *size;
  moved.flags = static_cast<std::uint16_t>(*flags);
  moved.state = std::move(parsed).value();
  return moved;
}

Json began_event(const ConnectionView& connection) {
  Json body = to_json(connection);
  body.set("event", "began");
  return body;
}

Json ended_event(ConnectionId id, ConnectionEnd end) {
  Json body = event("ended");
  body.set("id", id).set("reason", end_name(end));
  return body;
}

Json missed_event(std::uint64_t count) {
  Json body = event("missed");
  body.set("count", count);
  return body;
}

Json stopping_event() { return event("stopping"); }

}  // namespace nbdkit
