// SPDX-License-Identifier: BSD-3-Clause
#include "block/layer_stack.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace nbdkit {

void LayerStack::add(std::string name, std::string path, std::unique_ptr<Layer> layer) {
  layer->attach(environment_);
  entries_.push_back({std::move(name), std::move(path), std::move(layer)});
}

void LayerStack::add_filter(std::string name, std::string path,
                            std::unique_ptr<FilterLayer> filter) {
  filter->set_below(top());
  add(std::move(name), std::move(path), std::move(filter));
}

Result<void> LayerStack::configure(std::string_view key, std::string_view value) {
  for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry) {
    Result<bool> taken = entry->layer->configure(key, value);
    if (!taken.ok()) {
      return Error(taken.error().code, fmt::format("{}: {}", entry->name, taken.error().message()));
    }
    if (!taken.value()) continue;
    entry->parameters += fmt::format("{}{}={}", entry->parameters.empty() ? "" : ",", key, value);
    return {};
  }
  return Error(std::errc::invalid_argument,
               fmt::format("{}: unknown parameter '{}' (see nbdkit --help {})",
                           entries_.front().name, key, entries_.front().name));
}

namespace {

template <typename Call>
Result<void> each_layer(const std::vector<LayerStack::Entry>& entries, Call call) {
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    Result<void> result = call(*entry->layer);
    if (!result.ok()) {
      return Error(result.error().code,
                   fmt::format("{}: {}", entry->name, result.error().message()));
    }
  }
  return {};
}

}  // namespace

Result<void> LayerStack::configured() {
  return each_layer(entries_, [](Layer& layer) { return layer.configured(); });
}
Result<void> LayerStack::get_ready() {
  return each_layer(entries_, [](Layer& layer) { return layer.get_ready(); });
}
Result<void> LayerStack::after_fork() {
  return each_layer(entries_, [](Layer& layer) { return layer.after_fork(); });
}
void LayerStack::cleanup() {
  for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry) entry->layer->cleanup();
}

Contract LayerStack::contract() const {
  Contract whole = plugin().contract();
  whole.transparent = true;
  whole.multi_conn = MultiConn::as_below;
  for (std::size_t i = 1; i < entries_.size(); ++i) {
    Contract one = entries_[i].layer->contract();
    whole.survives = std::min(whole.survives, one.survives);
    whole.shared_open &= one.shared_open;
    whole.transparent &= one.transparent;
    whole.swap_fit &= one.swap_fit;
    whole.multi_conn = std::min(whole.multi_conn, one.multi_conn);
  }
  return whole;
}

std::string LayerStack::mapping() const {
  std::string text;
  for (std::size_t i = entries_.size() - 1; i > 0; --i) {
    const Entry& entry = entries_[i];
    if (entry.layer->contract().transparent) continue;
    text += fmt::format("{}{}({})", text.empty() ? "" : " ", entry.name, entry.parameters);
  }
  return text;
}

}  // namespace nbdkit
