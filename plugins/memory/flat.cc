// SPDX-License-Identifier: BSD-3-Clause
// allocator=malloc: one piece of memory for the whole disk, without holes, on request locked so
// that it is never swapped out.

#include <fmt/format.h>
#include <sys/mman.h>

#include <cstring>

#include "mapping.h"
#include "store.h"

namespace nbdkit {
namespace {

class Flat final : public Store {
 public:
  Flat(std::uint64_t size, bool locked) : size_(size), locked_(locked) {}

  Result<void> get_ready() override;
  Result<void> after_fork() override;
  DevicePtr open(Context& context, Properties properties) override {
    return std::make_unique<MappedDevice<Flat>>(context, *this, std::move(properties));
  }

  void read(Request request, Reply& reply) const {
    reply.lend({memory_.data() + request.offset, static_cast<std::size_t>(request.length)});
  }
  Result<void> write(std::uint64_t offset, std::span<const std::byte> bytes) {
    std::memcpy(memory_.data() + offset, bytes.data(), bytes.size());
    return {};
  }
  Result<void> zero(Request request) {
    std::memset(memory_.data() + request.offset, 0, static_cast<std::size_t>(request.length));
    return {};
  }
  Result<void> extents(Request request, Extents& extents) const {
    return extents.add(request.offset, request.length, ExtentType::data);
  }

 private:
  Error cannot_lock() const {
    int number = errno;
    return os_error(
        fmt::format("size={}: allocator=malloc,mlock=true: locking the memory (the limit is "
                    "'ulimit -l', root has none)",
                    size_),
        number);
  }

  const std::uint64_t size_;
  const bool locked_;
  Mapping memory_;
};

Result<void> Flat::get_ready() {
  if (size_ == 0) return {};
  auto memory = Mapping::anonymous(size_, Mapping::Reserve::yes);
  if (!memory.ok()) {
    return Error(memory.error().code,
                 fmt::format("size={}: not enough memory for allocator=malloc; the default "
                             "allocator=sparse takes only what is written",
                             size_));
  }
  memory_ = std::move(memory).value();
  // Whether it is allowed; it is done after the last fork, which ends all locks.
  if (locked_ && ::mlock2(memory_.data(), size_, MLOCK_ONFAULT) != 0) return cannot_lock();
  return {};
}

Result<void> Flat::after_fork() {
  if (size_ != 0 && locked_ && ::mlock(memory_.data(), size_) != 0) return cannot_lock();
  return {};
}

}  // namespace

std::unique_ptr<Store> make_flat(std::uint64_t size, bool locked) {
  return std::make_unique<Flat>(size, locked);
}

}  // namespace nbdkit
