// SPDX-License-Identifier: BSD-3-Clause
// Parameter files: @PATH on the command line stands for the parameters in that file.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace nbdkit {

// A parameter "@PATH" with a '/' in it becomes the lines of the file: a parameter each, without
// empty lines and those that begin with '#'. Such a line in a file may stand for another file,
// whose path is relative to the folder of the first one. The Error names the file.
Result<std::vector<std::string>> expand_parameter_files(std::vector<std::string> parameters);

}  // namespace nbdkit
