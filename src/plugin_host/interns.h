// SPDX-License-Identifier: BSD-3-Clause
// Interns: strings that stay where they are until their owner goes.
#pragma once

#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

namespace nbdkit {

// Thread-safe.
class Interns {
 public:
  const char* keep(std::string_view text);

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<char[]>> strings_;
};

}  // namespace nbdkit
