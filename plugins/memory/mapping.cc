// SPDX-License-Identifier: BSD-3-Clause
#include "mapping.h"

#include <sys/mman.h>

namespace nbdkit {

Mapping::~Mapping() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

Result<Mapping> Mapping::anonymous(std::size_t size, Reserve reserve) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | (reserve == Reserve::no ? MAP_NORESERVE : 0);
  return make(size, flags, -1, 0);
}

Result<Mapping> Mapping::shared(int fd, std::uint64_t offset, std::size_t size) {
  return make(size, MAP_SHARED | MAP_NORESERVE, fd, offset);
}

Result<Mapping> Mapping::make(std::size_t size, int flags, int fd, std::uint64_t offset) {
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, static_cast<off_t>(offset));
  // A thin disk that finds no room is what clients know as a full disk. ENOMEM would tell them that
  // the request was too large.
  if (data == MAP_FAILED) return std::errc::no_space_on_device;
  Mapping mapping;
  mapping.data_ = static_cast<std::byte*>(data);
  mapping.size_ = size;
  return mapping;
}

}  // namespace nbdkit
