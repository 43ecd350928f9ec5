// SPDX-License-Identifier: BSD-3-Clause
// Mapping: memory straight from the kernel, given back when its owner goes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/result.h"

namespace nbdkit {

class Mapping {
 public:
  enum class Reserve { yes, no };  // no: what is not touched is not counted as memory in use

  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Mapping();

  // `size` > 0 bytes of zeroes that take no memory until they are written.
  static Result<Mapping> anonymous(std::size_t size, Reserve reserve);
  // Bytes of a file, which must reach as far; shared with everybody who maps it. `offset` is
  // aligned to a page.
  static Result<Mapping> shared(int fd, std::uint64_t offset, std::size_t size);

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  static Result<Mapping> make(std::size_t size, int flags, int fd, std::uint64_t offset);

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace nbdkit
