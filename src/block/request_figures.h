// SPDX-License-Identifier: BSD-3-Clause
// RequestFigures: how much has been asked of devices, and how long it took.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/latency_histogram.h"
#include "base/parse.h"

namespace nbdkit {

enum class RequestKind : std::uint8_t { read, write, flush, trim, zero, cache, extents };
inline constexpr std::array<std::string_view, 7> kRequestKindNames{
    "read", "write", "flush", "trim", "zero", "cache", "extents"};

struct RequestFigures {
  struct Kind {
    std::uint64_t requests = 0;  // that were answered
    std::uint64_t bytes = 0;     // of those that have not failed
    std::uint64_t failed = 0;
    bool operator==(const Kind&) const = default;
  };

  Kind& of(RequestKind kind) { return kinds[static_cast<std::size_t>(kind)]; }
  const Kind& of(RequestKind kind) const { return kinds[static_cast<std::size_t>(kind)]; }

  void add(RequestKind kind, std::uint64_t length, bool failed, Nanoseconds took) {
    Kind& counted = of(kind);
    ++counted.requests;
    counted.bytes += failed ? 0 : length;
    counted.failed += failed ? 1 : 0;
    latency.add(took);
    latency_total += took;
  }

  RequestFigures& operator+=(const RequestFigures& other) {
    for (std::size_t i = 0; i < kinds.size(); ++i) {
      kinds[i].requests += other.kinds[i].requests;
      kinds[i].bytes += other.kinds[i].bytes;
      kinds[i].failed += other.kinds[i].failed;
    }
    latency += other.latency;
    latency_total += other.latency_total;
    under_way += other.under_way;
    if (other.oldest && (!oldest || *oldest < *other.oldest)) oldest = other.oldest;
    return *this;
  }

  std::array<Kind, kRequestKindNames.size()> kinds{};
  LatencyHistogram latency;  // of all kinds
  Nanoseconds latency_total{0};
  std::uint64_t under_way = 0;
  std::optional<Nanoseconds> oldest;  // age of the oldest one under way
};

}  // namespace nbdkit
