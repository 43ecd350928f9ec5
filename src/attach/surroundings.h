// SPDX-License-Identifier: BSD-3-Clause
// Surroundings: what a program inherits that neither its arguments nor its environment say.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <array>
#include <optional>
#include <vector>

#include "base/json.h"

namespace nbdkit {

struct Surroundings {
  static constexpr std::size_t kLimits = RLIM_NLIMITS;

  struct Groups {
    gid_t own = 0;
    std::vector<gid_t> more;  // supplementary ones, ascending
    bool operator==(const Groups&) const = default;
  };

  // Whatever is absent is left as it is.
  std::optional<std::array<rlimit, kLimits>> limits;  // by RLIMIT_*
  std::optional<int> oom_score;                       // oom_score_adj
  std::optional<Groups> groups;

  static Surroundings ours();

  // Of this process, as far as it is permitted. Only what is safe in a signal handler: for a child
  // that shares nothing but a moment ago had threads.
  void apply() const noexcept;
};

Json to_json(const Surroundings& surroundings);
// What is not as to_json() says it is absent.
Surroundings parse_surroundings(const Json& json);

}  // namespace nbdkit
