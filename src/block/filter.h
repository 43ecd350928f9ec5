// SPDX-License-Identifier: BSD-3-Clause
// Filter: a device above another one. What it does not override is not even called: requests go
// straight to the layer that does something.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

#include "block/device.h"

namespace nbdkit {

// A filter that announces more or less than what is below passes its own Properties.
class Filter : public BlockDevice {
 public:
  explicit Filter(DevicePtr next) : Filter(std::move(next), nullptr) {}
  Filter(DevicePtr next, Properties properties)
      : BlockDevice(std::move(properties)), next_(std::move(next)) {}

  const Chain& next() const { return next_; }

  Task<void> pread(Request request, Reply& reply) override { return next_.pread(request, reply); }
  Task<void> pwrite(Request request, Payload& payload) override {
    return next_.pwrite(request, payload);
  }
  Task<void> flush() override { return next_.flush(); }
  Task<void> trim(Request request) override { return next_.trim(request); }
  Task<void> zero(Request request) override { return next_.zero(request); }
  Task<void> cache(Request request) override { return next_.cache(request); }
  Task<void> extents(Request request, Extents& extents) override {
    return next_.extents(request, extents);
  }
  Task<void> close() override { return next_.close(); }

  BlockDevice& target(Operation operation) final {
    return overrides(operation) ? *this : next_.target(operation);
  }

 private:
  template <typename F, typename... Args>
  friend DevicePtr make_filter(Args&&... args);

  Filter(DevicePtr next, std::nullptr_t)
      : BlockDevice(next->properties()), next_(std::move(next)) {}

  bool overrides(Operation operation) const {
    return (overridden_ >> static_cast<unsigned>(operation) & 1) != 0;
  }

  Chain next_;
  unsigned overridden_ = ~0u;  // A bit for each Operation.
};

namespace detail {

// &F::pread has the type of the class that F inherits it from.
template <typename Member>
inline constexpr bool is_own = true;
template <typename R, typename... Args>
inline constexpr bool is_own<R (Filter::*)(Args...)> = false;

template <Operation operation>
constexpr unsigned bit(bool set) {
  return (set ? 1u : 0u) << static_cast<unsigned>(operation);
}

template <typename F>
constexpr unsigned overridden_operations() {
  return bit<Operation::read>(is_own<decltype(&F::pread)>) |
         bit<Operation::write>(is_own<decltype(&F::pwrite)>) |
         bit<Operation::flush>(is_own<decltype(&F::flush)>) |
         bit<Operation::trim>(is_own<decltype(&F::trim)>) |
         bit<Operation::zero>(is_own<decltype(&F::zero)>) |
         bit<Operation::cache>(is_own<decltype(&F::cache)>) |
         bit<Operation::extents>(is_own<decltype(&F::extents)>);
}

}  // namespace detail

// The way to make a filter's device: finds out which operations F overrides. They must be public.
template <typename F, typename... Args>
DevicePtr make_filter(Args&&... args) {
  auto filter = std::make_unique<F>(std::forward<Args>(args)...);
  static_cast<Filter&>(*filter).overridden_ = detail::overridden_operations<F>();
  return filter;
}

}  // namespace nbdkit
