// SPDX-License-Identifier: BSD-3-Clause
// OptionReader: takes values from the front of the data of an option, or of an answer to one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "proto/be.h"

namespace nbdkit {

inline constexpr std::uint32_t kStringMax = 4096;  // NBD protocol, "Values": strings

// After the first value that is not there everything fails.
class OptionReader {
 public:
  explicit OptionReader(std::span<const std::byte> data) : data_(data) {}

  template <typename T>
  T number() {
    Be<T> wire{T{}};
    if (data_.size() < sizeof wire) return lose<T>();
    std::memcpy(&wire, data_.data(), sizeof wire);
    data_ = data_.subspan(sizeof wire);
    return wire.get();
  }

  // Behind its length.
  std::string counted_text() { return text(number<std::uint32_t>()); }
  // All that is left.
  std::string rest() { return text(data_.size()); }

  std::size_t left() const { return data_.size(); }
  bool complete() const { return good_ && data_.empty(); }
  bool good() const { return good_; }

 private:
  std::string text(std::size_t length) {
    if (length > kStringMax || length > data_.size()) return lose<std::string>();
    std::string text(reinterpret_cast<const char*>(data_.data()), length);
    data_ = data_.subspan(length);
    return text;
  }

  template <typename T>
  T lose() {
    good_ = false;
    data_ = {};
    return T{};
  }

  std::span<const std::byte> data_;
  bool good_ = true;
};

}  // namespace nbdkit
