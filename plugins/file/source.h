// SPDX-License-Identifier: BSD-3-Clause
// Source: where the files come from. One file or a directory of them, by name or by descriptor.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "open_file.h"

namespace nbdkit {

// Thread-safe. All but the making blocks.
class Source {
 public:
  Source() = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  virtual ~Source() = default;

  virtual Result<OpenedFile> open(const std::string& export_name, OpenOptions options) const = 0;
  // A directory has exports with names, sorted; everything else has none.
  virtual bool is_directory() const { return false; }
  virtual Result<std::vector<std::string>> list(std::size_t max) const;
  // Opening again does not start anew: it is the descriptor of somebody else.
  virtual bool is_inherited() const { return false; }
};

// These check what can be checked before anybody connects.
Result<std::unique_ptr<Source>> file_source(std::string path);
Result<std::unique_ptr<Source>> fd_source(int fd);
Result<std::unique_ptr<Source>> directory_source(std::string path);
Result<std::unique_ptr<Source>> dirfd_source(int fd);

}  // namespace nbdkit
