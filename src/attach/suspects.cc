// SPDX-License-Identifier: BSD-3-Clause
#include "attach/suspects.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

namespace nbdkit {
namespace {

Json to_json(const LedgerRequest& request) {
  Json json = Json::array();
  json.push(request.command).push(request.offset).push(request.length);
  return json;
}

// `size`: of the array that it begins.
std::optional<LedgerRequest> parse_request(const Json& json, std::size_t size) {
  const Json::Array* items = json.as_array();
  if (items == nullptr || items->size() != size) return {};
  std::optional<std::uint64_t> command = (*items)[0].as_unsigned();
  std::optional<std::uint64_t> offset = (*items)[1].as_unsigned();
  std::optional<std::uint64_t> length = (*items)[2].as_unsigned();
  if (!command || *command > 0xffff || !offset || !length) return {};
  return LedgerRequest{static_cast<std::uint16_t>(*command), *offset, *length};
}

const Json::Array& items_of(const Json& json, std::string_view key) {
  static const Json::Array kNone;
  const Json* value = json.find(key);
  return value != nullptr && value->as_array() != nullptr ? *value->as_array() : kNone;
}

}  // namespace

void Suspects::died(std::span<const LedgerRequest> under_way, Cause cause) {
  std::vector<Suspect> next;
  std::vector<LedgerRequest> guilty;
  for (const LedgerRequest& request : under_way) {
    bool twice = std::any_of(next.begin(), next.end(),
                             [&](const Suspect& known) { return known.request == request; });
    if (twice) continue;
    auto before = std::find_if(suspects_.begin(), suspects_.end(),
                               [&](const Suspect& known) { return known.request == request; });
    std::size_t deaths = before != suspects_.end() ? before->deaths + 1 : 1;
    if (cause == Cause::unknown) deaths = std::min(deaths, kDeathsMax);
    next.push_back({request, deaths});
    if (deaths > kDeathsMax) guilty.push_back(request);
  }
  suspects_ = std::move(next);
  // Alone it was, unless other connections had their own.
  if (guilty.size() != 1 || refused_.size() >= RequestLedger::kMarkedMax) return;
  refused_.push_back(guilty.front());
  std::erase_if(suspects_,
                [&](const Suspect& suspect) { return suspect.request == guilty.front(); });
}

std::vector<MarkedRequest> Suspects::marked() const {
  std::vector<MarkedRequest> marked;
  for (const LedgerRequest& request : refused_) marked.push_back({request, LedgerMark::refuse});
  for (const Suspect& suspect : suspects_) {
    if (suspect.deaths < kDeathsMax || marked.size() >= RequestLedger::kMarkedMax) continue;
    marked.push_back({suspect.request, LedgerMark::alone});
  }
  return marked;
}

std::string describe(const LedgerRequest& request) {
  // NBD protocol, "Request types".
  constexpr std::array<std::string_view, 7> kNames{"read", "write", "disconnect",     "flush",
                                                   "trim", "cache", "write of zeroes"};
  std::string_view name =
      request.command < kNames.size() ? kNames[request.command] : std::string_view("request");
  return fmt::format("{} of {} bytes at {}", name, request.length, request.offset);
}

void Suspects::forget() {
  suspects_.clear();
  refused_.clear();
}

Json Suspects::save() const {
  Json suspects = Json::array();
  for (const Suspect& suspect : suspects_) {
    suspects.push(to_json(suspect.request).push(suspect.deaths));
  }
  Json refused = Json::array();
  for (const LedgerRequest& request : refused_) refused.push(to_json(request));
  return Json::object().set("suspects", std::move(suspects)).set("refused", std::move(refused));
}

void Suspects::restore(const Json& saved) {
  forget();
  for (const Json& item : items_of(saved, "suspects")) {
    std::optional<LedgerRequest> request = parse_request(item, 4);
    if (!request) continue;
    std::uint64_t deaths = item.as_array()->back().as_unsigned().value_or(0);
    suspects_.push_back({*request, std::clamp<std::size_t>(deaths, 1, kDeathsMax)});
  }
  for (const Json& item : items_of(saved, "refused")) {
    std::optional<LedgerRequest> request = parse_request(item, 3);
    if (request && refused_.size() < RequestLedger::kMarkedMax) refused_.push_back(*request);
  }
}

}  // namespace nbdkit
