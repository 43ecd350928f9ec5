// SPDX-License-Identifier: BSD-3-Clause
// TemporaryFolder: where a script keeps what it has to remember from one call to the next.
#pragma once

#include <string>

#include "base/result.h"

namespace nbdkit {

// Removed with everything in it by the process that uses it last.
class TemporaryFolder {
 public:
  TemporaryFolder() = default;
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();

  // In /tmp, and nobody else's.
  Result<void> make();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace nbdkit
