// SPDX-License-Identifier: BSD-3-Clause
// The client's side of the handshake's options: the data that it sends, and what the data of an
// answer says. No I/O: bytes of a peer become checked values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/handshake.h"
#include "proto/option_reader.h"

namespace nbdkit {

// NBD_OPT_INFO and NBD_OPT_GO.
std::vector<std::byte> info_request_data(std::string_view export_name, std::span<const Info> infos);
// NBD_OPT_SET_META_CONTEXT with one query.
std::vector<std::byte> meta_context_request_data(std::string_view export_name,
                                                 std::string_view query);

// Everything that NBD_REP_INFO has said about an export.
struct ExportAnswer {
  struct BlockSizes {
    std::uint32_t minimum;
    std::uint32_t preferred;
    std::uint32_t maximum;
    bool operator==(const BlockSizes&) const = default;
  };
  std::optional<std::uint64_t> size;
  std::uint16_t flags = 0;
  std::string name;
  std::string description;
  std::optional<BlockSizes> block_sizes;
};

// Adds what one answer says; false when it is malformed. Kinds that are not known, and block sizes
// that the protocol forbids, say nothing.
bool add_info_answer(std::span<const std::byte> data, ExportAnswer& answer);

// NBD_REP_SERVER.
struct ListAnswer {
  std::string name;
  std::string description;
};
std::optional<ListAnswer> parse_list_answer(std::span<const std::byte> data);

// NBD_REP_META_CONTEXT.
struct MetaContextAnswer {
  std::uint32_t id;
  std::string name;
};
std::optional<MetaContextAnswer> parse_meta_context_answer(std::span<const std::byte> data);

}  // namespace nbdkit
