// SPDX-License-Identifier: BSD-3-Clause
// KernelLog: what the nbd driver has said of its devices (/dev/kmsg; the kernel's document
// ABI/testing/dev-kmsg). Some of what happens to a device is told there and nowhere else.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace nbdkit {

class KernelLog {
 public:
  // All that there is now. Errors: there is none here, or it may not be read (dmesg_restrict).
  static Result<KernelLog> read();

  // A record as read() of /dev/kmsg returns it; what is none is passed over.
  void add(std::string_view record);

  // What the number of the next message will be at least. Numbers begin anew when the kernel does.
  std::uint64_t next() const { return next_; }
  // Whether every message from `sequence` on is still there.
  bool reaches_back_to(std::uint64_t sequence) const { return oldest_ && *oldest_ <= sequence; }
  // Those of the driver on this device from `sequence` on, oldest first, without "block nbdN: ".
  std::vector<std::string_view> about(std::uint32_t index, std::uint64_t sequence) const;

 private:
  struct Message {
    std::uint64_t sequence;
    std::string text;
  };

  std::optional<std::uint64_t> oldest_;
  std::uint64_t next_ = 0;
  std::vector<Message> messages_;  // of nbd devices
};

}  // namespace nbdkit
