// SPDX-License-Identifier: BSD-3-Clause
// NbdUri: the address of an NBD export, as users write it (the NBD URI specification).
//
//   nbd://host[:port]/export        nbd+unix:///export?socket=/path        nbd+vsock://cid[:port]/
//   nbds://, nbds+unix:// and nbds+vsock:// are the same with TLS.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "client/remote_address.h"

namespace nbdkit {

struct NbdUri {
  RemoteAddress address;
  std::string export_name;
  bool tls = false;
  std::string user;  // for TLS
  std::string tls_certificates;
  std::string tls_psk_file;
  bool tls_verify_peer = true;
};

// An Error's detail is a whole sentence that quotes what is wrong.
Result<NbdUri> parse_uri(std::string_view text);

}  // namespace nbdkit
