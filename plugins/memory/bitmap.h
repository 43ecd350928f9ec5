// SPDX-License-Identifier: BSD-3-Clause
// Bitmap: a bit for each chunk of memory, changed and read by many threads without a lock.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace nbdkit {

template <std::size_t kBits>
class Bitmap {
 public:
  struct Run {
    bool set;
    std::size_t end;
  };

  // All ranges: [first, end), not empty.

  // What this thread did before is seen by whoever finds the bits set.
  void set(std::size_t first, std::size_t end) {
    for_words(first, end, [this](std::size_t word, std::uint64_t mask) {
      words_[word].fetch_or(mask, std::memory_order_acq_rel);
    });
  }
  void clear(std::size_t first, std::size_t end) {
    for_words(first, end, [this](std::size_t word, std::uint64_t mask) {
      words_[word].fetch_and(~mask, std::memory_order_acq_rel);
    });
  }
  bool all(std::size_t first, std::size_t end) const {
    Run run = run_at(first, end);
    return run.set && run.end == end;
  }
  // The bits from `first` on that are equal to it, cut at `end`.
  Run run_at(std::size_t first, std::size_t end) const {
    std::uint64_t word = load(first / 64);
    bool set = (word >> (first % 64) & 1) != 0;
    std::uint64_t flip = set ? ~std::uint64_t{0} : 0;
    std::uint64_t others = (word ^ flip) >> (first % 64);  // Bits that end the run.
    std::size_t at = first;
    while (others == 0) {
      at = (at / 64 + 1) * 64;
      if (at >= end) return {set, end};
      others = load(at / 64) ^ flip;
    }
    at += static_cast<std::size_t>(std::countr_zero(others));
    return {set, at < end ? at : end};
  }

 private:
  static_assert(kBits % 64 == 0);

  std::uint64_t load(std::size_t word) const {
    return words_[word].load(std::memory_order_acquire);
  }

  template <typename Change>
  static void for_words(std::size_t first, std::size_t end, Change change) {
    while (first < end) {
      std::size_t in_word = first % 64;
      std::size_t count = end - first < 64 - in_word ? end - first : 64 - in_word;
      change(first / 64, ~std::uint64_t{0} >> (64 - count) << in_word);
      first += count;
    }
  }

  std::array<std::atomic<std::uint64_t>, kBits / 64> words_{};
};

}  // namespace nbdkit
