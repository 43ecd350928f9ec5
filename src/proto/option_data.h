// SPDX-License-Identifier: BSD-3-Clause
// What the data of the handshake's options says. No I/O: bytes of a peer become checked values.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/handshake.h"
#include "proto/option_reader.h"

namespace nbdkit {

// Strings have no NUL (NBD protocol, "Conventions"): whoever takes them for strings of C, as
// plugins do, would see another export than we.
bool is_string(std::string_view text);

// NBD_OPT_INFO and NBD_OPT_GO.
struct InfoRequest {
  std::string export_name;
  std::vector<Info> infos;
};
std::optional<InfoRequest> parse_info_request(std::span<const std::byte> data);

// NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT.
struct MetaContextRequest {
  std::string export_name;
  std::vector<std::string> queries;
};
std::optional<MetaContextRequest> parse_meta_context_request(std::span<const std::byte> data);

}  // namespace nbdkit
