// SPDX-License-Identifier: BSD-3-Clause
// RestartPolicy: when, and how often, a server that has ended is started again.
#pragma once

#include <deque>
#include <optional>

#include "base/parse.h"

namespace nbdkit {

class RestartPolicy {
 public:
  static constexpr std::size_t kStartsMax = 5;  // within kWindow, none of which has served
  static constexpr Seconds kWindow{60};
  static constexpr Milliseconds kDelayMin{250};  // before the second start; doubles from there on
  // A request that kills the server is sent again a second after the start: a server that has
  // lived for longer has survived it.
  static constexpr Seconds kServedMin{2};

  // How long to wait before the next start, which counts from now on. Nothing: there were enough.
  std::optional<Nanoseconds> next_delay(Nanoseconds now);
  void has_served(Nanoseconds how_long);

 private:
  std::deque<Nanoseconds> starts_;
};

}  // namespace nbdkit
