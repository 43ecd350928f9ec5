// SPDX-License-Identifier: BSD-3-Clause
#include "base/error_text.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <new>

#include "base/pooling.h"

namespace nbdkit {

// The text follows it.
struct ErrorText::Cell {
  std::atomic<bool> taken{false};
  bool on_heap = false;
  std::uint32_t size = 0;

  char* text() { return reinterpret_cast<char*>(this + 1); }
};

namespace {

struct alignas(8) Place {
  std::array<std::byte, 512> bytes;
};

// Zeroes are a cell that nobody has taken.
constinit std::array<Place, ErrorText::kCells> places{};
constinit std::atomic<std::uint32_t> next_place{0};

}  // namespace

ErrorText::ErrorText(std::string_view text) {
  static_assert(sizeof(Cell) + kCellMax <= sizeof(Place));
  if (text.empty()) return;
  if (kPooled && text.size() <= kCellMax) {
    const std::uint32_t first = next_place.fetch_add(1, std::memory_order_relaxed);
    for (std::uint32_t i = 0; i < kCells && cell_ == nullptr; ++i) {
      auto* cell = reinterpret_cast<Cell*>(&places[(first + i) % kCells]);
      if (!cell->taken.exchange(true, std::memory_order_acquire)) cell_ = cell;
    }
  }
  if (cell_ == nullptr) {
    cell_ = new (::operator new(sizeof(Cell) + text.size())) Cell;
    cell_->on_heap = true;
  }
  cell_->size = static_cast<std::uint32_t>(text.size());
  std::memcpy(cell_->text(), text.data(), text.size());
}

void ErrorText::release() noexcept {
  if (cell_->on_heap) return ::operator delete(cell_);
  cell_->taken.store(false, std::memory_order_release);
}

std::string_view ErrorText::view() const {
  return cell_ != nullptr ? std::string_view(cell_->text(), cell_->size) : std::string_view();
}

}  // namespace nbdkit
