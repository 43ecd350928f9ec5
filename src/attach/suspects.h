// SPDX-License-Identifier: BSD-3-Clause
// Suspects: which request a server has died of. The driver sends every request again that was not
// answered, so one that kills the server would kill each that follows.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "block/request_ledger.h"

namespace nbdkit {

class Suspects {
 public:
  // Deaths in a row with which a request was under way, after which it is carried out alone; when
  // the server dies of it then, it is refused from then on.
  static constexpr std::size_t kDeathsMax = 3;

  enum class Cause { itself, unknown };
  // What was under way when a server died. Where it may have been killed a request is never refused
  // for that, at most carried out alone.
  void died(std::span<const LedgerRequest> under_way, Cause cause = Cause::itself);

  // For the next server: at most RequestLedger::kMarkedMax, those to be refused first.
  std::vector<MarkedRequest> marked() const;
  std::span<const LedgerRequest> refused() const { return refused_; }

  // Another program is to try them.
  void forget();

  // For another keeper.
  Json save() const;
  // What save() said; what is none of that is left out.
  void restore(const Json& saved);

 private:
  struct Suspect {
    LedgerRequest request;
    std::size_t deaths = 1;
  };

  std::vector<Suspect> suspects_;
  std::vector<LedgerRequest> refused_;
};

// "write of 4096 bytes at 8192"
std::string describe(const LedgerRequest& request);

}  // namespace nbdkit
