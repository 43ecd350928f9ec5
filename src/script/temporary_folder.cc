// SPDX-License-Identifier: BSD-3-Clause
#include "script/temporary_folder.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include <stdlib.h>

namespace nbdkit {

Result<void> TemporaryFolder::make() {
  std::string path = "/tmp/nbdkitXXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return os_error(path);
  path_ = std::move(path);
  return {};
}

// Links in it are removed and not followed.
TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

}  // namespace nbdkit
