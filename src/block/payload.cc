// SPDX-License-Identifier: BSD-3-Clause
#include "block/payload.h"

#include <cstring>

namespace nbdkit {

Result<void> Payload::pin() {
  if (whole_ != nullptr) return whole_->pin();
  if (pinned_) return {};
  Result<Buffer> copy = pool_->get(bytes_.size(), owner_);
  if (!copy.ok()) return std::move(copy).error();
  std::memcpy(copy.value().bytes().data(), bytes_.data(), bytes_.size());
  buffer_ = std::move(copy).value();
  bytes_ = buffer_.bytes();
  pinned_ = true;
  return {};
}

}  // namespace nbdkit
