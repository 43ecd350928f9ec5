// SPDX-License-Identifier: BSD-3-Clause
#include "async/outbox.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace nbdkit {
namespace {

constexpr std::size_t kZeroesSize = 64 * 1024;
constexpr std::array<std::byte, kZeroesSize> kZeroes{};

}  // namespace

void Outbox::add_piece(const void* data, std::size_t length) {
  bytes_ += length;
  added_ += length;
  if (!empty()) {
    iovec& last = pieces_.back();
    if (static_cast<const std::byte*>(last.iov_base) + last.iov_len == data) {
      last.iov_len += length;
      return;
    }
  }
  pieces_.push_back({const_cast<void*>(data), length});
}

void Outbox::stock() {
  pieces_.reserve(kStockedPieces);
  blocks_kept_ = kStockedBlocks;
  while (blocks_.size() < kStockedBlocks)
    blocks_.push_back(std::make_unique<std::byte[]>(kBlockSize));
}

void Outbox::add_copy(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (block_used_ == kBlockSize) {
      ++block_;
      block_used_ = 0;
    }
    if (block_ == blocks_.size()) {
      blocks_.push_back(std::make_unique_for_overwrite<std::byte[]>(kBlockSize));
    }
    std::size_t length = std::min(bytes.size(), kBlockSize - block_used_);
    std::byte* to = blocks_[block_].get() + block_used_;
    std::memcpy(to, bytes.data(), length);
    block_used_ += length;
    bytes = bytes.subspan(length);
    add_piece(to, length);
  }
}

void Outbox::add(const std::byte* data, std::size_t length) {
  if (data != nullptr) return add_piece(data, length);
  while (length > 0) {
    std::size_t part = std::min(length, kZeroesSize);
    add_piece(kZeroes.data(), part);
    length -= part;
  }
}

Result<bool> Outbox::send(ByteStream& stream) {
  while (!empty()) {
    Result<std::size_t> sent = stream.send(std::span(pieces_).subspan(first_));
    if (!sent.ok()) {
      if (sent.error().code == std::errc::resource_unavailable_try_again) return false;
      return std::move(sent).error();
    }
    std::size_t n = sent.value();
    sent_ += n;
    while (first_ < pieces_.size() && n >= pieces_[first_].iov_len) {
      n -= pieces_[first_].iov_len;
      ++first_;
    }
    if (n > 0) {
      iovec& piece = pieces_[first_];
      piece.iov_base = static_cast<std::byte*>(piece.iov_base) + n;
      piece.iov_len -= n;
    }
  }
  clear();
  return true;
}

void Outbox::clear() {
  pieces_.clear();
  first_ = bytes_ = messages_ = block_ = block_used_ = 0;
  if (blocks_.size() > blocks_kept_) blocks_.resize(blocks_kept_);
}

}  // namespace nbdkit
