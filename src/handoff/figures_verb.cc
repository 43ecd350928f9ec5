// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/figures_verb.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "handoff/request_keys.h"

namespace nbdkit {
namespace {

// More than any server lives to see; sums of them fit.
constexpr std::uint64_t kCountMax = std::uint64_t{1} << 53;
constexpr std::uint64_t kSumMax = std::uint64_t{1} << 62;  // bytes and nanoseconds

Error no_valid(std::string_view key) {
  return Error(std::errc::protocol_error, fmt::format("the server's answer has no valid {}", key));
}

bool read(const Json& object, std::string_view key, std::uint64_t max, std::uint64_t& into) {
  const Json* value = object.find(key);
  std::optional<std::uint64_t> number = value != nullptr ? value->as_unsigned() : std::nullopt;
  if (!number || *number > max) return false;
  into = *number;
  return true;
}

// Pairs of a limit, of which there is a bucket, and a count; ascending.
bool read_latency(const Json& object, LatencyHistogram& into) {
  const Json* found = object.find("latency");
  const Json::Array* pairs = found != nullptr ? found->as_array() : nullptr;
  if (pairs == nullptr) return false;
  std::size_t next = 0;
  for (const Json& item : *pairs) {
    const Json::Array* pair = item.as_array();
    if (pair == nullptr || pair->size() != 2) return false;
    std::optional<std::uint64_t> limit = pair->front().as_unsigned();
    std::optional<std::uint64_t> count = pair->back().as_unsigned();
    if (!limit || *limit == 0 || *limit > kSumMax || !count || *count > kCountMax) return false;
    const Nanoseconds below(static_cast<std::int64_t>(*limit));
    const std::size_t bucket = LatencyHistogram::bucket_of(below - Nanoseconds(1));
    if (bucket < next || LatencyHistogram::limit_of(bucket) != below) return false;
    into.set(bucket, *count);
    next = bucket + 1;
  }
  return true;
}

Json latency_of(const LatencyHistogram& histogram) {
  Json pairs = Json::array();
  for (std::size_t i = 0; i < LatencyHistogram::kBuckets; ++i) {
    if (histogram.count(i) == 0) continue;
    Json pair = Json::array();
    pair.push(LatencyHistogram::limit_of(i).count()).push(histogram.count(i));
    pairs.push(std::move(pair));
  }
  return pairs;
}

}  // namespace

Json to_json(const HandoffFigures& asked) {
  Json body = Json::object();
  body.set("verb", "figures");
  if (asked.kernel) body.set("peer", *asked.kernel ? "kernel" : "client");
  return body;
}

Json to_json(const RequestFigures& figures) {
  Json requests = Json::object();
  for (std::size_t i = 0; i < kRequestKindNames.size(); ++i) {
    const RequestFigures::Kind& kind = figures.kinds[i];
    Json one = Json::object();
    one.set("answered", kind.requests).set("bytes", kind.bytes).set("failed", kind.failed);
    requests.set(kRequestKindNames[i], std::move(one));
  }
  Json body = Json::object();
  body.set("requests", std::move(requests))
      .set("under_way", figures.under_way)
      .set("oldest_ns", figures.oldest ? Json(figures.oldest->count()) : Json())
      .set("latency", latency_of(figures.latency))
      .set("latency_total_ns", figures.latency_total.count());
  return body;
}

Result<HandoffFigures> parse_figures_request(const Json& body) {
  NBDKIT_TRY(only_keys(body, {"verb", "peer"}));
  HandoffFigures asked;
  const Json* peer = body.find("peer");
  if (peer == nullptr) return asked;
  const std::string* text = peer->as_string();
  if (text == nullptr || (*text != "kernel" && *text != "client")) {
    return bad_value("peer", "\"client\" or \"kernel\"");
  }
  asked.kernel = *text == "kernel";
  return asked;
}

Result<RequestFigures> parse_figures(const Json& body) {
  RequestFigures figures;
  const Json* requests = body.find("requests");
  if (requests == nullptr) return no_valid("requests");
  for (std::size_t i = 0; i < kRequestKindNames.size(); ++i) {
    const Json* one = requests->find(kRequestKindNames[i]);
    RequestFigures::Kind& kind = figures.kinds[i];
    bool sound = one != nullptr && read(*one, "answered", kCountMax, kind.requests) &&
                 read(*one, "bytes", kSumMax, kind.bytes) &&
                 read(*one, "failed", kCountMax, kind.failed);
    if (!sound) return no_valid(kRequestKindNames[i]);
  }
  if (!read(body, "under_way", kCountMax, figures.under_way)) return no_valid("under_way");
  const Json* oldest = body.find("oldest_ns");
  std::uint64_t number = 0;
  if (oldest == nullptr || (!oldest->is_null() && !read(body, "oldest_ns", kSumMax, number))) {
    return no_valid("oldest_ns");
  }
  if (!oldest->is_null()) figures.oldest = Nanoseconds(static_cast<std::int64_t>(number));
  if (!read_latency(body, figures.latency)) return no_valid("latency");
  if (!read(body, "latency_total_ns", kSumMax, number)) return no_valid("latency_total_ns");
  figures.latency_total = Nanoseconds(static_cast<std::int64_t>(number));
  return figures;
}

}  // namespace nbdkit
