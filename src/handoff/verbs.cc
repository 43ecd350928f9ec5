// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/verbs.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <limits>
#include <span>
#include <string_view>
#include <utility>

#include "base/range.h"
#include "handoff/request_keys.h"
#include "proto/handshake.h"
#include "proto/transmission.h"

namespace nbdkit {
namespace {

constexpr std::size_t kExportNameMax = 4096;  // bytes (NBD protocol, "Values": strings)
constexpr std::size_t kTextMax = 4096;
constexpr std::uint32_t kNoLimit = std::numeric_limits<std::uint32_t>::max();
constexpr std::uint64_t kSizeMax = std::numeric_limits<std::int64_t>::max();

constexpr std::array<std::string_view, 3> kSurvives{"nothing", "flushed", "durable"};

Result<std::string> export_name(const Json& body) {
  const Json* value = body.find("export");
  if (value == nullptr) return std::string();
  const std::string* text = value->as_string();
  if (text == nullptr || text->size() > kExportNameMax || text->find('\0') != text->npos) {
    return bad_value("export", "a text of at most 4096 bytes without NUL");
  }
  return *text;
}

Result<bool> peer_is_kernel(const Json& body) {
  const Json* value = body.find("peer");
  if (value == nullptr) return false;
  const std::string* text = value->as_string();
  if (text == nullptr || (*text != "kernel" && *text != "client")) {
    return bad_value("peer", "\"kernel\" or \"client\"");
  }
  return *text == "kernel";
}

Result<HandoffServe::Mode> mode_of(const Json& body) {
  const Json* value = body.find("mode");
  const std::string* text = value != nullptr ? value->as_string() : nullptr;
  if (text != nullptr && *text == "transmission") return HandoffServe::Mode::transmission;
  if (text != nullptr && *text == "handshake") return HandoffServe::Mode::handshake;
  return bad_value("mode", "\"transmission\" or \"handshake\"");
}

constexpr std::string_view kHexDigits = "0123456789abcdef";

std::string to_hex(std::span<const std::byte> bytes) {
  std::string text;
  for (std::byte byte : bytes) {
    text += kHexDigits[static_cast<unsigned>(byte) >> 4];
    text += kHexDigits[static_cast<unsigned>(byte) & 15];
  }
  return text;
}

std::optional<std::vector<std::byte>> from_hex(std::string_view text) {
  if (text.size() % 2 != 0) return std::nullopt;
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i < text.size(); i += 2) {
    std::size_t high = kHexDigits.find(text[i]);
    std::size_t low = kHexDigits.find(text[i + 1]);
    if (high == text.npos || low == text.npos) return std::nullopt;
    bytes.push_back(static_cast<std::byte>(high << 4 | low));
  }
  return bytes;
}

// Takes numbers, texts and truths out of a server's answer; after the first that is wrong nothing
// counts any more.
class AnswerReader {
 public:
  explicit AnswerReader(const Json& body) : body_(body) {}

  std::uint64_t number(std::string_view key, std::uint64_t max) {
    const Json* value = body_.find(key);
    std::optional<std::uint64_t> n = value != nullptr ? value->as_unsigned() : std::nullopt;
    if (!n || *n > max) return lose(key), 0;
    return *n;
  }
  bool truth(std::string_view key, bool otherwise) {
    const Json* value = body_.find(key);
    if (value == nullptr) return otherwise;
    std::optional<bool> is = value->as_bool();
    if (!is) lose(key);
    return is.value_or(otherwise);
  }
  std::string text(std::string_view key) {
    const Json* value = body_.find(key);
    if (value == nullptr) return {};
    const std::string* text = value->as_string();
    if (text == nullptr || text->size() > kTextMax) return lose(key), std::string();
    return *text;
  }
  void lose(std::string_view key) {
    if (wrong_.empty()) wrong_ = key;
  }
  Result<void> result() const {
    if (wrong_.empty()) return {};
    return Error(std::errc::protocol_error,
                 fmt::format("the server's answer has no valid {}", wrong_));
  }

 private:
  const Json& body_;
  std::string wrong_;
};

// What block/properties.h asks of them. All 0 is allowed: nothing is known.
bool is_valid(const BlockSize& size) {
  constexpr std::uint32_t kMinimumMax = 64 * 1024;
  constexpr std::uint32_t kPreferredMin = 512;
  constexpr std::uint32_t kPreferredMax = 32 * 1024 * 1024;
  if (size.minimum == 0 && size.preferred == 0 && size.maximum == 0) return true;
  return is_power_of_2(size.minimum) && size.minimum <= kMinimumMax &&
         is_power_of_2(size.preferred) && size.preferred >= kPreferredMin &&
         size.preferred <= kPreferredMax && size.minimum <= size.preferred &&
         size.preferred <= size.maximum &&
         (size.maximum == kNoLimit || size.maximum % size.minimum == 0);
}

Json to_json(const BlockSize& size) {
  Json body = Json::object();
  body.set("minimum", size.minimum).set("preferred", size.preferred).set("maximum", size.maximum);
  return body;
}

std::optional<BlockSize> parse_block_size(const Json& sizes) {
  AnswerReader reader(sizes);
  auto number = [&](std::string_view key) {
    return static_cast<std::uint32_t>(reader.number(key, kNoLimit));
  };
  BlockSize size{number("minimum"), number("preferred"), number("maximum")};
  if (!reader.result().ok() || !is_valid(size)) return std::nullopt;
  return size;
}

}  // namespace

Json to_json(const HandoffQuery& query) {
  Json body = Json::object();
  body.set("verb", "query").set("export", query.export_name);
  if (query.kernel) body.set("peer", "kernel");
  return body;
}

Json to_json(const HandoffServe& serve) {
  bool transmission = serve.mode == HandoffServe::Mode::transmission;
  Json body = Json::object();
  body.set("verb", "serve").set("mode", transmission ? "transmission" : "handshake");
  body.set("export", serve.export_name);
  if (serve.kernel) body.set("peer", "kernel");
  if (serve.size) body.set("size", *serve.size);
  if (serve.flags) body.set("flags", *serve.flags);
  if (serve.state) body.set("state", to_json(*serve.state));
  if (serve.insecure) body.set("insecure", true);
  if (serve.hold) body.set("hold", true);
  return body;
}

Json to_json(const HandoffState& state) {
  Json contexts = Json::object();
  for (const MetaContext& one : kMetaContexts) {
    if (state.agreement.contexts.has(one)) contexts.set(one.name, one.id);
  }
  Json body = Json::object();
  body.set("structured_replies", state.agreement.structured_replies)
      .set("extended_headers", state.agreement.extended_headers)
      .set("contexts", std::move(contexts))
      .set("block_size", to_json(state.agreement.block_size))
      .set("unread", to_hex(state.unread));
  return body;
}

Json to_json(const HandoffExport& info) {
  Json body = Json::object();
  body.set("size", info.size)
      .set("transmission_flags", info.transmission_flags)
      .set("block_size", to_json(info.block_size))
      .set("maximum_payload", info.maximum_payload)
      .set("multi_conn", info.multi_conn)
      .set("identity", info.identity)
      .set("description", info.description)
      .set("survives", kSurvives[static_cast<std::size_t>(info.survives)])
      .set("shared_open", info.shared_open)
      .set("swap_fit", info.swap_fit)
      .set("mapping", info.mapping);
  if (!info.guards.is_null()) body.set("guards", info.guards);
  return body;
}

Json to_json(const HandoffServed& served) {
  Json body = served.info ? to_json(*served.info) : Json::object();
  body.set("id", served.id);
  return body;
}

Result<HandoffQuery> parse_query(const Json& body) {
  NBDKIT_TRY(only_keys(body, {"verb", "export", "peer"}));
  Result<std::string> name = export_name(body);
  if (!name.ok()) return std::move(name).error();
  Result<bool> kernel = peer_is_kernel(body);
  if (!kernel.ok()) return std::move(kernel).error();
  HandoffQuery query;
  query.export_name = std::move(name).value();
  query.kernel = kernel.value();
  return query;
}

Result<HandoffServe> parse_serve(const Json& body) {
  NBDKIT_TRY(only_keys(
      body, {"verb", "mode", "export", "peer", "size", "flags", "state", "insecure", "hold"}));
  Result<HandoffServe::Mode> mode = mode_of(body);
  if (!mode.ok()) return std::move(mode).error();
  Result<std::string> name = export_name(body);
  if (!name.ok()) return std::move(name).error();
  Result<bool> kernel = peer_is_kernel(body);
  if (!kernel.ok()) return std::move(kernel).error();
  Result<bool> insecure = bool_key(body, "insecure", false);
  if (!insecure.ok()) return std::move(insecure).error();
  Result<bool> hold = bool_key(body, "hold", false);
  if (!hold.ok()) return std::move(hold).error();
  if (hold.value() && mode.value() != HandoffServe::Mode::transmission) {
    return bad_value("hold", "absent when the handshake is still to come");
  }
  HandoffServe serve;
  serve.mode = mode.value();
  serve.export_name = std::move(name).value();
  serve.kernel = kernel.value();
  serve.insecure = insecure.value();
  serve.hold = hold.value();
  if (body.find("size") != nullptr) {
    Result<std::uint64_t> size = number_key(body, "size", 0, kSizeMax, std::nullopt);
    if (!size.ok()) return std::move(size).error();
    serve.size = size.value();
  }
  if (body.find("flags") != nullptr) {
    Result<std::uint64_t> flags = number_key(body, "flags", 0, 0xffff, std::nullopt);
    if (!flags.ok()) return std::move(flags).error();
    serve.flags = static_cast<std::uint16_t>(flags.value());
  }
  if (const Json* given = body.find("state")) {
    if (serve.mode != HandoffServe::Mode::transmission) {
      return bad_value("state", "absent when the handshake is still to come");
    }
    Result<HandoffState> state = parse_state(*given);
    if (!state.ok()) return std::move(state).error();
    serve.state = std::move(state).value();
  }
  return serve;
}

// With our numbers: whoever moves a connection here must have had the same ones.
Result<MetaContextSet> parse_contexts(const Json& body) {
  const Json::Object* members = body.as_object();
  MetaContextSet contexts;
  std::size_t known = 0;
  for (const MetaContext& one : kMetaContexts) {
    const Json* id = members != nullptr ? body.find(one.name) : nullptr;
    if (id == nullptr || id->as_unsigned() != one.id) continue;
    contexts.add(one);
    ++known;
  }
  if (members == nullptr || members->size() != known) {
    return bad_value("contexts", "of {\"base:allocation\":1,\"qemu:allocation-depth\":2}");
  }
  return contexts;
}

Result<HandoffState> parse_state(const Json& body) {
  if (body.as_object() == nullptr) return bad_value("state", "what take-over has answered");
  NBDKIT_TRY(only_keys(
      body, {"structured_replies", "extended_headers", "contexts", "block_size", "unread"}));
  HandoffState state;
  Result<bool> structured = bool_key(body, "structured_replies", false);
  if (!structured.ok()) return std::move(structured).error();
  state.agreement.structured_replies = structured.value();
  Result<bool> extended = bool_key(body, "extended_headers", false);
  if (!extended.ok()) return std::move(extended).error();
  state.agreement.extended_headers = extended.value();
  if (state.agreement.extended_headers && !state.agreement.structured_replies) {
    return bad_value("extended_headers", "false without structured replies");
  }
  if (const Json* contexts = body.find("contexts")) {
    Result<MetaContextSet> known = parse_contexts(*contexts);
    if (!known.ok()) return std::move(known).error();
    state.agreement.contexts = known.value();
  }
  if (!state.agreement.contexts.empty() && !state.agreement.structured_replies) {
    return bad_value("contexts", "empty without structured replies");
  }
  if (const Json* sizes = body.find("block_size")) {
    std::optional<BlockSize> size = parse_block_size(*sizes);
    if (!size) return bad_value("block_size", "what take-over has answered");
    state.agreement.block_size = *size;
  }
  if (const Json* unread = body.find("unread")) {
    const std::string* text = unread->as_string();
    auto bytes = text != nullptr ? from_hex(*text) : std::nullopt;
    std::size_t header = extended.value() ? sizeof(ExtendedRequestWire) : sizeof(RequestWire);
    if (!bytes || bytes->size() >= header) {
      return bad_value("unread", extended.value() ? "at most 62 digits" : "at most 54 digits");
    }
    state.unread = std::move(*bytes);
  }
  return state;
}

Result<HandoffExport> parse_export(const Json& body) {
  AnswerReader reader(body);
  HandoffExport info;
  info.size = reader.number("size", kSizeMax);
  info.transmission_flags = static_cast<std::uint16_t>(reader.number("transmission_flags", 0xffff));
  info.maximum_payload = static_cast<std::uint32_t>(
      reader.number("maximum_payload", std::numeric_limits<std::uint32_t>::max()));
  info.multi_conn = reader.truth("multi_conn", false);
  info.identity = reader.text("identity");
  info.description = reader.text("description");
  info.shared_open = reader.truth("shared_open", false);
  info.swap_fit = reader.truth("swap_fit", false);
  info.mapping = reader.text("mapping");
  if (const Json* guards = body.find("guards")) info.guards = *guards;
  if (const Json* sizes = body.find("block_size")) {
    std::optional<BlockSize> size = parse_block_size(*sizes);
    if (!size) reader.lose("block_size");
    info.block_size = size.value_or(BlockSize());
  }
  std::string survives = reader.text("survives");
  auto found = std::find(kSurvives.begin(), kSurvives.end(), survives);
  if (found != kSurvives.end()) {
    info.survives = static_cast<Survives>(found - kSurvives.begin());
  } else if (!survives.empty()) {
    reader.lose("survives");
  }
  NBDKIT_TRY(reader.result());
  return info;
}

Result<HandoffServed> parse_served(const Json& body, HandoffServe::Mode mode) {
  AnswerReader reader(body);
  HandoffServed served;
  served.id = reader.number("id", std::numeric_limits<std::uint64_t>::max());
  NBDKIT_TRY(reader.result());
  if (mode == HandoffServe::Mode::handshake) return served;
  Result<HandoffExport> info = parse_export(body);
  if (!info.ok()) return std::move(info).error();
  served.info = std::move(info).value();
  return served;
}

}  // namespace nbdkit
