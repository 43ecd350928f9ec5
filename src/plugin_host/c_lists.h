// SPDX-License-Identifier: BSD-3-Clause
// The two lists that plugins in C fill by calling functions: what the opaque structs of
// nbdkit-common.h are.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>

#include "block/extents.h"
#include "block/layer.h"

struct nbdkit_extents {
  explicit nbdkit_extents(nbdkit::Extents& of_request) : list(&of_request) {}
  nbdkit_extents(std::uint64_t start, std::uint64_t end) : own(std::in_place, start, end) {
    list = &*own;
  }
  nbdkit_extents(const nbdkit_extents&) = delete;
  nbdkit_extents& operator=(const nbdkit_extents&) = delete;

  std::optional<nbdkit::Extents> own;
  nbdkit::Extents* list;
};

struct nbdkit_exports {
  struct Entry {
    std::string name;
    std::optional<std::string> description;
    bool is_default = false;  // the plugin's default export, whatever that is
  };

  static constexpr std::size_t kEntriesMax = nbdkit::Layer::kExportsMax;

  std::deque<Entry> entries;  // Pointers into them stay valid while more are added.
};
