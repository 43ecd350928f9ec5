// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/connection_verbs.h"

#include <limits>
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

Result<void> parse_subscribe(const Json& body) { return only_keys(body, {"verb"}); }

Json to_json(const ConnectionView& connection) {
  Json body = Json::object();
  body.set("id", connection.id)
      .set("user", connection.owner ? Json(*connection.owner) : Json())
      .set("mode", mode_name(connection.mode))
      .set("phase", phase_name(connection.phase))
      .set("export", connection.export_name)
      .set("peer", peer_name(connection.kernel));
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
