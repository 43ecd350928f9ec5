// SPDX-License-Identifier: BSD-3-Clause
// Queue settings: what the kernel's queue of a device is set to when it is attached. The driver
// leaves them as the last user of the device had them, so all are set, each time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "block/properties.h"
#include "netlink/sysfs.h"

namespace nbdkit {

// What a queue is made for.
struct QueueNeeds {
  BlockSize block_size;
  std::uint64_t device_block_size = 512;
  bool rotational = false;
  bool flush = false;  // written data may be in a cache until it is flushed
  bool swap = false;   // answering must not need much memory
  std::vector<std::pair<std::string, std::string>> chosen;  // of --queue, in any order
};

struct QueueSetting {
  std::string attribute;  // below /sys/block/nbdN: "queue/scheduler"
  std::string value;
  bool chosen = false;  // by the user, who wants to know when it cannot be had

  bool operator==(const QueueSetting&) const = default;
};

// KEY=VALUE of --queue. The Error says which keys there are.
Result<std::pair<std::string, std::string>> parse_queue_setting(std::string_view text);

// In the order in which they have to be set. `hardware_kb` is the driver's limit for one request.
// invalid_argument when the user wants requests that are longer than the export's.
Result<std::vector<QueueSetting>> queue_settings(const QueueNeeds& needs,
                                                 std::uint64_t hardware_kb);

// Ends with a sentence for each that could not be set; an Error when it was the user's. Waits for
// requests that are under way.
Result<std::vector<std::string>> set_queue(const Sysfs& sysfs, std::uint32_t index,
                                           const QueueNeeds& needs);

}  // namespace nbdkit
