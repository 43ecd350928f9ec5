// SPDX-License-Identifier: BSD-3-Clause
// Be<T>: a number as it travels, in network byte order.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace nbdkit {

namespace detail {
template <typename T>
constexpr T swap_bytes(T n) {
  if constexpr (sizeof(T) == 8) return static_cast<T>(__builtin_bswap64(n));
  if constexpr (sizeof(T) == 4) return static_cast<T>(__builtin_bswap32(n));
  if constexpr (sizeof(T) == 2) return static_cast<T>(__builtin_bswap16(n));
  return n;
}
template <typename T, bool = std::is_enum_v<T>>
struct NumberOf {
  using Type = T;
};
template <typename T>
struct NumberOf<T, true> {
  using Type = std::underlying_type_t<T>;
};
}  // namespace detail

// Alignment 1: structs of these lie straight in a receive buffer. Only get() makes a number of it.
template <typename T>
class Be {
  using Number = typename detail::NumberOf<T>::Type;

 public:
  Be() = default;
  Be(T value) {
    Number n = static_cast<Number>(value);
    if constexpr (std::endian::native == std::endian::little) n = detail::swap_bytes(n);
    std::memcpy(bytes_, &n, sizeof n);
  }
  T get() const {
    Number n;
    std::memcpy(&n, bytes_, sizeof n);
    if constexpr (std::endian::native == std::endian::little) n = detail::swap_bytes(n);
    return static_cast<T>(n);
  }

 private:
  unsigned char bytes_[sizeof(T)];
};

}  // namespace nbdkit
