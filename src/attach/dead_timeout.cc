// SPDX-License-Identifier: BSD-3-Clause
#include "attach/dead_timeout.h"

#include <algorithm>
#include <vector>

namespace nbdkit {
namespace {

// The driver says so when it gives all sockets of a device up: at a disconnect, which ends the
// attachment, and when a request has waited for as long as it may.
constexpr std::string_view kGivenUp = "shutting down sockets";

}  // namespace

std::optional<std::uint64_t> end_of_kernel_log() {
  Result<KernelLog> log = KernelLog::read();
  if (!log.ok()) return {};
  return log.value().next();
}

DeadTimeout dead_timeout_of(const KernelLog& log, std::uint32_t index, std::uint64_t begin) {
  const std::vector<std::string_view> said = log.about(index, begin);
  if (std::find(said.begin(), said.end(), kGivenUp) != said.end()) return DeadTimeout::expired;
  return log.reaches_back_to(begin) ? DeadTimeout::waits : DeadTimeout::unknown;
}

DeadTimeout dead_timeout_of(std::uint32_t index, std::optional<std::uint64_t> begin) {
  Result<KernelLog> log = KernelLog::read();
  if (!begin || !log.ok()) return DeadTimeout::unknown;
  return dead_timeout_of(log.value(), index, *begin);
}

}  // namespace nbdkit
