// SPDX-License-Identifier: BSD-3-Clause
#include "plugin_host/zero_pages.h"

#include <sys/mman.h>

namespace nbdkit {

// Pages that were never written to are all the kernel's one page of zeroes.
Result<ZeroPages> ZeroPages::map(std::size_t size) {
  void* memory =
      ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return os_error("mapping a buffer of zeroes");
  return ZeroPages({static_cast<const std::byte*>(memory), size});
}

ZeroPages::~ZeroPages() {
  if (bytes_.empty()) return;
  ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace nbdkit
