// SPDX-License-Identifier: BSD-3-Clause
// ZeroPages: much memory full of zeroes that costs none: every page of it is the same one.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include "base/result.h"

namespace nbdkit {

// Read-only. Any thread.
class ZeroPages {
 public:
  static Result<ZeroPages> map(std::size_t size);
  ZeroPages(ZeroPages&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  ZeroPages& operator=(ZeroPages&&) = delete;
  ~ZeroPages();

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  explicit ZeroPages(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::span<const std::byte> bytes_;
};

}  // namespace nbdkit
