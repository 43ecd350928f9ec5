// SPDX-License-Identifier: BSD-3-Clause
#include "attach/suspects.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace nbdkit {

void Suspects::died(std::span<const LedgerRequest> under_way) {
  std::vector<Suspect> next;
  std::vector<LedgerRequest> guilty;
  for (const LedgerRequest& request : under_way) {
    bool twice = std::any_of(next.begin(), next.end(),
                             [&](const Suspect& known) { return known.request == request; });
    if (twice) continue;
    auto before = std::find_if(suspects_.begin(), suspects_.end(),
                               [&](const Suspect& known) { return known.request == request; });
    std::size_t deaths = before != suspects_.end() ? before->deaths + 1 : 1;
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

}  // namespace nbdkit
