// SPDX-License-Identifier: BSD-3-Clause
#include "block/thread_model.h"

#include <array>

namespace nbdkit {
namespace {

constexpr std::array kAll{ThreadModel::serialize_connections, ThreadModel::serialize_all_requests,
                          ThreadModel::serialize_requests, ThreadModel::parallel};

}  // namespace

std::string_view to_string(ThreadModel model) {
  switch (model) {
    case ThreadModel::serialize_connections:
      return "serialize_connections";
    case ThreadModel::serialize_all_requests:
      return "serialize_all_requests";
    case ThreadModel::serialize_requests:
      return "serialize_requests";
    case ThreadModel::parallel:
      return "parallel";
  }
  return "";
}

std::optional<ThreadModel> parse_thread_model(std::string_view word) {
  for (ThreadModel model : kAll) {
    if (word == to_string(model)) return model;
  }
  return std::nullopt;
}

}  // namespace nbdkit
