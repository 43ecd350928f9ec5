// SPDX-License-Identifier: BSD-3-Clause
// Performance: what a device's server does, out of what it says at two moments.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "async/gate.h"
#include "async/loop.h"
#include "base/json.h"
#include "block/request_figures.h"
#include "handoff/handoff_client.h"

namespace nbdkit {

struct Performance {
  std::string problem;  // why the rest is not known; "": it is
  // Between the two moments; none: there is only one yet.
  std::optional<Nanoseconds> interval;
  double reads = 0;  // a second, as all of these
  double writes = 0;
  double others = 0;
  double read_bytes = 0;
  double written_bytes = 0;
  // Of requests answered between the two moments, or ever when there is only one; none: no request.
  std::optional<Nanoseconds> p50;
  std::optional<Nanoseconds> p99;
  std::uint64_t under_way = 0;
  std::optional<Nanoseconds> oldest;  // age of the oldest one under way
};

Json to_json(const Performance& performance);
// What a keeper said; protocol_error when it is something else.
Result<Performance> parse_performance(const Json& json);
// Lines for people, each "  key          text".
std::string describe(const Performance& performance);
// "1.02 us", "13 ms"
std::string describe_time(Nanoseconds time);

// Asks the server of one device. One loop's; its thread only.
class PerformanceWatch {
 public:
  static constexpr Seconds kAnswerMax{1};
  // Rates are of so long at least, if there was so long.
  static constexpr Seconds kIntervalMin{1};

  // What is passed outlives this; a question is inside the gate until it is answered, or its
  // HandoffClient closed.
  PerformanceWatch(Loop& loop, Gate& gate) : loop_(loop), gate_(gate) {}

  // Ends when the server has answered, or after kAnswerMax. One that does not answer is not asked
  // again before it has: what it does not read must not fill the socket that it needs for other
  // things. `server` may be null, `process` is another number for another server.
  Task<void> look(HandoffClient* server, std::int64_t process);

  Performance performance() const;
  // The latest; null when the server has not answered.
  const RequestFigures* figures() const;

 private:
  struct Sample {
    Nanoseconds at{0};
    RequestFigures figures;
  };

  Task<void> ask(HandoffClient& server, std::int64_t process);
  void take(Result<RequestFigures> told);
  void end_waiting();

  Loop& loop_;
  Gate& gate_;
  std::int64_t process_ = 0;
  bool asking_ = false;
  Nanoseconds asked_at_{0};
  std::string problem_ = "no server runs";
  bool refused_ = false;  // it will never answer
  std::optional<Sample> latest_;
  std::deque<Sample> kept_;  // kIntervalMin apart at least, at most two
  std::vector<Gate*> waiting_;
};

}  // namespace nbdkit
