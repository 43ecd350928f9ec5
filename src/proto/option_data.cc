// SPDX-License-Identifier: BSD-3-Clause
#include "proto/option_data.h"

#include <cstring>

namespace nbdkit {
namespace {

// Takes values from the front; after the first that is not there everything fails.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> data) : data_(data) {}

  template <typename T>
  T number() {
    Be<T> wire{T{}};
    if (data_.size() < sizeof wire) return lose<T>();
    std::memcpy(&wire, data_.data(), sizeof wire);
    data_ = data_.subspan(sizeof wire);
    return wire.get();
  }

  std::string text() {
    std::uint32_t length = number<std::uint32_t>();
    if (length > kStringMax || length > data_.size()) return lose<std::string>();
    std::string text(reinterpret_cast<const char*>(data_.data()), length);
    data_ = data_.subspan(length);
    return text;
  }

  std::size_t left() const { return data_.size(); }
  bool complete() const { return good_ && data_.empty(); }
  bool good() const { return good_; }

 private:
  template <typename T>
  T lose() {
    good_ = false;
    data_ = {};
    return T{};
  }

  std::span<const std::byte> data_;
  bool good_ = true;
};

}  // namespace

std::optional<InfoRequest> parse_info_request(std::span<const std::byte> data) {
  Reader reader(data);
  InfoRequest request;
  request.export_name = reader.text();
  std::uint16_t count = reader.number<std::uint16_t>();
  if (!reader.good() || reader.left() != std::size_t{count} * sizeof(Be<Info>)) return std::nullopt;
  for (unsigned i = 0; i < count; ++i) request.infos.push_back(reader.number<Info>());
  return request;
}

std::optional<MetaContextRequest> parse_meta_context_request(std::span<const std::byte> data) {
  Reader reader(data);
  MetaContextRequest request;
  request.export_name = reader.text();
  std::uint32_t count = reader.number<std::uint32_t>();
  // Each query has a length at least, which bounds what the count can make us do.
  if (!reader.good() || count > reader.left() / sizeof(std::uint32_t)) return std::nullopt;
  for (std::uint32_t i = 0; i < count; ++i) request.queries.push_back(reader.text());
  if (!reader.complete()) return std::nullopt;
  return request;
}

}  // namespace nbdkit
