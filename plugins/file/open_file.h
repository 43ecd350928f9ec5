// SPDX-License-Identifier: BSD-3-Clause
// Opening a file or block device, and finding out what has to be known of it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace nbdkit {

// Gives a new descriptor, or -1 and errno. `flags` as for open(2); called on workers.
using Opener = std::function<int(int flags)>;

struct OpenOptions {
  bool read_only = false;
  bool direct = false;  // past the page cache
};

struct OpenedFile {
  std::string name;  // for messages
  UniqueFd fd;
  // Of the same file through the page cache; only when `fd` is direct and the size is no multiple
  // of what it takes.
  UniqueFd buffered;

  std::string identity;  // which file this is, as long as the machine runs
  std::uint64_t size = 0;
  bool is_block = false;
  bool can_write = false;
  bool is_rotational = false;
  bool can_map = false;            // tells its holes
  bool in_memory = false;          // reading and writing never wait for a disk
  std::uint32_t sector = 1;        // block devices: what discarding and zeroing is aligned to
  std::uint32_t align = 1;         // what offsets and lengths must be a multiple of, 1 to 64 KiB
  std::uint32_t memory_align = 1;  // the same for addresses; at most a page
  std::uint32_t io_size = 4096;    // what the file system likes best; a power of 2
};

// Blocks. Opened read-only when it cannot be written. Errors name `name`.
Result<OpenedFile> open_file(std::string name, const Opener& opener, OpenOptions options);

// An Error unless it is a regular file or a block device. `fd` may be an O_PATH descriptor.
Result<void> check_type(const std::string& name, int fd);

}  // namespace nbdkit
