// SPDX-License-Identifier: BSD-3-Clause
#include "block/reply.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace nbdkit {

Result<std::span<std::byte>> Reply::buffer(std::size_t length) {
  Result<Buffer> buffer = pool_.get(length, owner_);
  if (!buffer.ok()) return std::move(buffer).error();
  buffers_.push_back(std::move(buffer).value());
  std::span<std::byte> bytes = buffers_.back().bytes();
  pieces_.push_back({bytes.data(), bytes.size()});
  size_ += length;
  return bytes;
}

void Reply::reserve() {
  pieces_.reserve(kReserved);
  buffers_.reserve(kReserved);
  releases_.reserve(kReserved);
}

void Reply::lend(std::span<const std::byte> bytes, Job* release) {
  if (release != nullptr) releases_.push_back(release);
  size_ += bytes.size();
  if (!pieces_.empty()) {
    Piece& last = pieces_.back();
    if (last.data != nullptr && last.data + last.length == bytes.data()) {
      last.length += bytes.size();
      return;
    }
  }
  pieces_.push_back({bytes.data(), bytes.size()});
}

void Reply::hole(std::uint64_t length) {
  size_ += length;
  if (!pieces_.empty() && pieces_.back().data == nullptr) {
    pieces_.back().length += length;
    return;
  }
  pieces_.push_back({nullptr, static_cast<std::size_t>(length)});
}

void Reply::append(Reply& other) {
  size_ += std::exchange(other.size_, 0);
  pieces_.insert(pieces_.end(), other.pieces_.begin(), other.pieces_.end());
  releases_.insert(releases_.end(), other.releases_.begin(), other.releases_.end());
  for (Buffer& buffer : other.buffers_) buffers_.push_back(std::move(buffer));
  other.pieces_.clear();
  other.releases_.clear();
  other.buffers_.clear();
}

void Reply::append_part(Reply& other, std::uint64_t from, std::uint64_t length) {
  size_ += length;
  for (const Piece& piece : other.pieces_) {
    std::uint64_t skipped = std::min<std::uint64_t>(from, piece.length);
    from -= skipped;
    std::uint64_t taken = std::min(length, piece.length - skipped);
    length -= taken;
    if (taken == 0) continue;
    const std::byte* data = piece.data != nullptr ? piece.data + skipped : nullptr;
    pieces_.push_back({data, static_cast<std::size_t>(taken)});
  }
  NBDKIT_CHECK(from == 0 && length == 0);
  other.pieces_.clear();
  other.size_ = 0;
  append(other);  // What keeps the memory alive.
}

// Nothing but one buffer of ours, whole: lent memory may lie right behind it in one piece.
bool Reply::is_one_buffer() const {
  if (buffers_.size() != 1 || pieces_.size() != 1) return false;
  std::span<const std::byte> bytes = buffers_[0].bytes();
  return pieces_[0].data == bytes.data() && pieces_[0].length == bytes.size();
}

Result<std::span<std::byte>> Reply::mutable_bytes() {
  if (is_one_buffer()) return buffers_[0].bytes();
  if (size_ == 0) return std::span<std::byte>();
  Reply copy(pool_, owner_);
  Result<std::span<std::byte>> bytes = copy.buffer(static_cast<std::size_t>(size_));
  if (!bytes.ok()) return bytes;
  std::byte* to = bytes.value().data();
  for (const Piece& piece : pieces_) {
    if (piece.data != nullptr) {
      std::memcpy(to, piece.data, piece.length);
    } else {
      std::memset(to, 0, piece.length);
    }
    to += piece.length;
  }
  clear();
  append(copy);
  return buffers_[0].bytes();
}

void Reply::clear() {
  pieces_.clear();
  buffers_.clear();
  size_ = 0;
  for (Job* release : releases_) release->run();
  releases_.clear();
}

}  // namespace nbdkit
