// SPDX-License-Identifier: BSD-3-Clause
// The metadata contexts that the server has, and sets of them (NBD protocol, "Metadata querying").
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace nbdkit {

struct MetaContext {
  std::string_view name;
  std::uint32_t id;  // what we call it: 1 to 31
};

// Where holes are and what reads as zeroes.
inline constexpr MetaContext kBaseAllocation{"base:allocation", 1};
// How deep in a chain of images the data lies (QEMU's docs/interop/nbd.rst): 0 nowhere, 1 in this
// one. More than one image there is not here.
inline constexpr MetaContext kAllocationDepth{"qemu:allocation-depth", 2};

// In the order of their answers.
inline constexpr std::array kMetaContexts{kBaseAllocation, kAllocationDepth};

class MetaContextSet {
 public:
  constexpr bool has(const MetaContext& context) const { return (bits_ & bit(context)) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr void add(const MetaContext& context) { bits_ |= bit(context); }
  constexpr void remove(const MetaContext& context) { bits_ &= ~bit(context); }
  constexpr void clear() { bits_ = 0; }

 private:
  static constexpr std::uint32_t bit(const MetaContext& context) {
    return std::uint32_t{1} << context.id;
  }

  std::uint32_t bits_ = 0;
};

}  // namespace nbdkit
