// SPDX-License-Identifier: BSD-3-Clause
// ErrorText: what an Error says. A request that fails must not need memory for saying so: the text
// is in one of a fixed number of cells, and on the heap only when it is long or none of them is
// free.
#pragma once

#include <cstddef>
#include <string_view>
#include <utility>

namespace nbdkit {

// Any thread may end what another one has made.
class ErrorText {
 public:
  // What the requests of several connections can need at a time.
  static constexpr std::size_t kCells = 256;
  static constexpr std::size_t kCellMax = 500;  // bytes of text

  ErrorText() = default;  // no text
  explicit ErrorText(std::string_view text);
  ErrorText(ErrorText&& other) noexcept : cell_(std::exchange(other.cell_, nullptr)) {}
  ErrorText& operator=(ErrorText&& other) noexcept {
    std::swap(cell_, other.cell_);
    return *this;
  }
  ~ErrorText() {
    if (cell_ != nullptr) release();
  }

  std::string_view view() const;

 private:
  struct Cell;

  void release() noexcept;

  Cell* cell_ = nullptr;
};

}  // namespace nbdkit
