// SPDX-License-Identifier: BSD-3-Clause
// nbdtab: nbd-client's table of devices, as words of nbdkit-attach's command line
// (nbdkit-nbdtab(5)).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace nbdkit {

inline constexpr std::string_view kNbdtab = "/etc/nbdtab";

struct NbdtabLine {
  std::vector<std::string> options;  // ours
  std::vector<std::string> plugin;   // or an address, and what follows it
};

// The line of `device` ("/dev/nbd0" or "nbd0") in a file's text. Errors have the exit code usage
// and name `file`, the line and what is wrong with it; other lines are not looked at.
Result<NbdtabLine> find_in_nbdtab(std::string_view text, std::string_view file,
                                  std::string_view device);

// The same of a file. kNbdtab need not be there.
Result<NbdtabLine> read_nbdtab(const std::string& file, std::string_view device);

}  // namespace nbdkit
