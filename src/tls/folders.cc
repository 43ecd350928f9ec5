// SPDX-License-Identifier: BSD-3-Clause
#include "tls/folders.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>

namespace nbdkit {

std::vector<std::string> certificate_folders(std::string_view program) {
  if (::geteuid() == 0) return {fmt::format("{}/{}", kRootPki, program)};
  const char* home = std::getenv("HOME");
  if (home == nullptr) return {};
  return {fmt::format("{}/.pki/{}", home, program),
          fmt::format("{}/.config/pki/{}", home, program)};
}

}  // namespace nbdkit
