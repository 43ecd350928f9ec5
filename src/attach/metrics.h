// SPDX-License-Identifier: BSD-3-Clause
// Metrics: what is known about one device, in the text format of Prometheus.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "attach/attachment_status.h"
#include "block/request_figures.h"
#include "netlink/sysfs.h"

namespace nbdkit {

// `figures`: what the server says; null: it does not. `last_error_at`: seconds since 1970; none:
// nobody knows, or there was no error.
std::string format_metrics(const AttachmentStatus& status,
                           const std::optional<NbdCounters>& counters,
                           const RequestFigures* figures,
                           std::optional<std::int64_t> last_error_at);

}  // namespace nbdkit
