// SPDX-License-Identifier: BSD-3-Clause
// Directory: finds what belongs to a part of a disk of up to 2^63 bytes, of which most parts do not
// exist.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "base/result.h"
#include "mapping.h"

namespace nbdkit {

inline constexpr unsigned kPartShift = 28;
inline constexpr std::uint64_t kPartSize = std::uint64_t{1} << kPartShift;  // 256 MiB

// Owns a Part for each kPartSize bytes that something was put into. Parts are never taken away, so
// that finding one needs no lock. Thread-safe.
template <typename Part>
class Directory {
 public:
  static constexpr std::uint64_t kNone = ~std::uint64_t{0};

  // `size` in bytes, up to 2^63 - 1.
  explicit Directory(std::uint64_t size)
      : parts_((size + kPartSize - 1) >> kPartShift),
        branches_((parts_ + kBranchParts - 1) >> kBranchShift),
        top_(std::make_unique<Branch[]>(branches_)) {}
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory() {
    for (std::uint64_t at = next(0); at != kNone; at = next(at + kPartSize)) delete find(at);
  }

  // The part that `offset` is in; nullptr when it does not exist.
  Part* find(std::uint64_t offset) const {
    std::uint64_t part = offset >> kPartShift;
    Part** branch = top_[part >> kBranchShift].parts.load(std::memory_order_acquire);
    if (branch == nullptr) return nullptr;
    return load(branch, part);
  }

  // The same, made with `make(start of the part) -> Result<std::unique_ptr<Part>>` when missing.
  template <typename Make>
  Result<Part*> get(std::uint64_t offset, Make make) {
    Part* part = find(offset);
    if (part != nullptr) return part;
    return add(offset, make);
  }

  // Where the first part that exists begins, at `offset` or after; kNone when there is none.
  // `offset` is the start of a part.
  std::uint64_t next(std::uint64_t offset) const {
    for (std::uint64_t part = offset >> kPartShift; part < parts_;) {
      Part** branch = top_[part >> kBranchShift].parts.load(std::memory_order_acquire);
      std::uint64_t end = std::min(((part >> kBranchShift) + 1) << kBranchShift, parts_);
      if (branch == nullptr) part = end;
      for (; part < end; ++part) {
        if (load(branch, part) != nullptr) return part << kPartShift;
      }
    }
    return kNone;
  }

 private:
  static constexpr unsigned kBranchShift = 18;
  static constexpr std::uint64_t kBranchParts = std::uint64_t{1} << kBranchShift;  // 64 TiB

  struct Branch {
    std::atomic<Part**> parts{nullptr};
    Mapping memory;  // Untouched pages of it cost nothing: a far write to a huge disk is cheap.
  };

  static Part* load(Part** branch, std::uint64_t part) {
    return std::atomic_ref(branch[part % kBranchParts]).load(std::memory_order_acquire);
  }

  template <typename Make>
  Result<Part*> add(std::uint64_t offset, Make& make) {
    std::lock_guard lock(mutex_);
    if (Part* part = find(offset)) return part;  // Somebody else was faster.
    std::uint64_t part = offset >> kPartShift;
    Branch& branch = top_[part >> kBranchShift];
    if (branch.memory.data() == nullptr) {
      std::uint64_t parts = std::min(parts_, kBranchParts);
      auto memory = Mapping::anonymous(parts * sizeof(Part*), Mapping::Reserve::no);
      if (!memory.ok()) return std::move(memory).error();
      branch.memory = std::move(memory).value();
      branch.parts.store(reinterpret_cast<Part**>(branch.memory.data()), std::memory_order_release);
    }
    Result<std::unique_ptr<Part>> made = make(part << kPartShift);
    if (!made.ok()) return std::move(made).error();
    Part* added = made.value().release();
    Part** slot = branch.parts.load(std::memory_order_relaxed) + part % kBranchParts;
    std::atomic_ref(*slot).store(added, std::memory_order_release);
    return added;
  }

  const std::uint64_t parts_;
  const std::uint64_t branches_;
  std::unique_ptr<Branch[]> top_;
  std::mutex mutex_;  // For adding.
};

}  // namespace nbdkit
