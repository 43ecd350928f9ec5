// SPDX-License-Identifier: BSD-3-Clause
// Where certificates are looked for when nobody has said it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace nbdkit {

inline constexpr std::string_view kRootPki = "/etc/pki";

// For root one folder of the system, for others two of their own, the first one that has
// certificates counts. `program` is "nbdkit" for servers and "libnbd" for clients.
std::vector<std::string> certificate_folders(std::string_view program);

}  // namespace nbdkit
