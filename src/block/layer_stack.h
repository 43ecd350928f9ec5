// SPDX-License-Identifier: BSD-3-Clause
// LayerStack: the plugin and the filters above it, as the command line gave them.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "block/layer.h"

namespace nbdkit {

class LayerStack {
 public:
  struct Entry {
    std::string name;
    std::string path;  // of the module, absolute
    std::unique_ptr<Layer> layer;
    std::string parameters = {};  // "key=value,key=value" that it has taken
  };

  explicit LayerStack(Environment& environment) : environment_(environment) {}

  // The plugin first, then filters from the innermost to the outermost. Attaches the layer.
  void add(std::string name, std::string path, std::unique_ptr<Layer> layer);
  void add_filter(std::string name, std::string path, std::unique_ptr<FilterLayer> filter);

  Layer& top() const { return *entries_.back().layer; }
  Layer& plugin() const { return *entries_.front().layer; }
  const std::vector<Entry>& entries() const { return entries_; }

  // Offers the pair to each layer from the top down; nobody taking it is an Error.
  Result<void> configure(std::string_view key, std::string_view value);
  Result<void> configured();
  Result<void> get_ready();
  Result<void> after_fork();
  void cleanup();

  // Of the whole: as weak as the weakest layer. multi_conn: whether can_multi_conn of an open
  // device may be believed; one filter that says no is enough.
  Contract contract() const;
  // The filters that are not transparent and the parameters they have taken, outermost first:
  // "offset(offset=1M,range=4M)". Two stacks of which it is the same, above the same data, have the
  // same bytes in the same places; "" when there is no such filter.
  std::string mapping() const;

 private:
  Environment& environment_;
  std::vector<Entry> entries_;
};

}  // namespace nbdkit
