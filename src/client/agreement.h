// SPDX-License-Identifier: BSD-3-Clause
// ClientAgreement: what a client and a server have settled in the handshake.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "proto/option_answers.h"

namespace nbdkit {

struct ClientAgreement {
  std::uint64_t size = 0;   // bytes, at most 2^63 - 1
  std::uint16_t flags = 0;  // transmission_flag
  std::optional<ExportAnswer::BlockSizes> block_sizes;
  std::string canonical_name;  // the server's own name of the export, when it told one
  std::string description;
  bool structured_replies = false;
  bool extended_headers = false;
  std::optional<std::uint32_t> base_allocation;  // the server's number of this metadata context
  bool tls = false;

  bool has(std::uint16_t flag) const { return (flags & flag) != 0; }

  // Whether requests that were made for one may be sent on a connection with the other.
  bool is_same_export(const ClientAgreement& other) const {
    return size == other.size && flags == other.flags && block_sizes == other.block_sizes &&
           extended_headers == other.extended_headers && tls == other.tls &&
           base_allocation.has_value() == other.base_allocation.has_value();
  }
};

}  // namespace nbdkit
