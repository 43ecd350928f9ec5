// SPDX-License-Identifier: BSD-3-Clause
// -i with the name of a network interface.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "main/nbdkit_options.h"

namespace nbdkit {

// What -i says, as addresses or names of hosts: an interface of this machine stands for the
// addresses that it has now, as far as they are of the family. Without any it is an Error.
Result<std::vector<std::string>> addresses_of(const std::string& name, Options::Family family);

}  // namespace nbdkit
