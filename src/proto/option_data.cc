// SPDX-License-Identifier: BSD-3-Clause
#include "proto/option_data.h"

#include <algorithm>

#include "proto/option_reader.h"

namespace nbdkit {

bool is_string(std::string_view text) { return text.find('\0') == text.npos; }

std::optional<InfoRequest> parse_info_request(std::span<const std::byte> data) {
  OptionReader reader(data);
  InfoRequest request;
  request.export_name = reader.counted_text();
  std::uint16_t count = reader.number<std::uint16_t>();
  if (!reader.good() || reader.left() != std::size_t{count} * sizeof(Be<Info>)) return std::nullopt;
  if (!is_string(request.export_name)) return std::nullopt;
  for (unsigned i = 0; i < count; ++i) request.infos.push_back(reader.number<Info>());
  return request;
}

std::optional<MetaContextRequest> parse_meta_context_request(std::span<const std::byte> data) {
  OptionReader reader(data);
  MetaContextRequest request;
  request.export_name = reader.counted_text();
  std::uint32_t count = reader.number<std::uint32_t>();
  // Each query has a length at least, which bounds what the count can make us do.
  if (!reader.good() || count > reader.left() / sizeof(std::uint32_t)) return std::nullopt;
  for (std::uint32_t i = 0; i < count; ++i) request.queries.push_back(reader.counted_text());
  if (!reader.complete() || !is_string(request.export_name)) return std::nullopt;
  if (!std::all_of(request.queries.begin(), request.queries.end(), is_string)) return std::nullopt;
  return request;
}

}  // namespace nbdkit
