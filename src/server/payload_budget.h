// SPDX-License-Identifier: BSD-3-Clause
// PayloadBudget: how much memory the payloads of all connections together may take, however many
// clients announce large requests.
#pragma once

#include <atomic>
#include <cstdint>

namespace nbdkit {

// Any thread.
class PayloadBudget {
 public:
  static constexpr std::uint64_t kBytesMax = 512ull << 20;

  bool take(std::uint64_t bytes) {
    std::uint64_t used = used_.load(std::memory_order_relaxed);
    do {
      if (bytes > kBytesMax - used) return false;
    } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
    return true;
  }
  void give_back(std::uint64_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }
  std::uint64_t used() const { return used_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> used_{0};
};

// One connection's part of a budget. Its loop's thread only.
class PayloadShare {
 public:
  // What every connection may use without asking: a client that takes all that there is does not
  // keep others from being served.
  static constexpr std::uint64_t kFreeBytes = 256ull << 10;
  // Taken and given back in steps: the budget is shared between processors.
  static constexpr std::uint64_t kStepBytes = 1ull << 20;

  // Null: there is no limit.
  explicit PayloadShare(PayloadBudget* budget) : budget_(budget) {}
  PayloadShare(const PayloadShare&) = delete;
  PayloadShare& operator=(const PayloadShare&) = delete;
  ~PayloadShare() { shrink_to(0); }

  // Whether the connection may use `bytes` altogether.
  bool grow_to(std::uint64_t bytes) {
    if (budget_ == nullptr || bytes <= kFreeBytes + taken_) return true;
    std::uint64_t more = (bytes - kFreeBytes - taken_ + kStepBytes - 1) / kStepBytes * kStepBytes;
    if (!budget_->take(more)) return false;
    taken_ += more;
    return true;
  }

  // It uses no more than that now.
  void shrink_to(std::uint64_t bytes) {
    std::uint64_t needed = bytes > kFreeBytes ? bytes - kFreeBytes : 0;
    std::uint64_t spare = taken_ > needed ? taken_ - needed : 0;
    // One step is kept while the connection is busy, or each request would come here.
    std::uint64_t back = bytes == 0 ? taken_ : spare / kStepBytes * kStepBytes;
    if (back == 0 || (bytes > 0 && back < 2 * kStepBytes)) return;
    budget_->give_back(back);
    taken_ -= back;
  }

 private:
  PayloadBudget* const budget_;
  std::uint64_t taken_ = 0;
};

}  // namespace nbdkit
