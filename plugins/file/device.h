// SPDX-License-Identifier: BSD-3-Clause
// FileDevice: one connection to a Backing.
#pragma once

#include <memory>

#include "backing.h"
#include "block/context.h"
#include "block/device.h"

namespace nbdkit {

// `context` outlives it. close() gives the Backing back, so that closing the file happens on a
// worker.
class FileDevice final : public BlockDevice {
 public:
  FileDevice(Context& context, std::shared_ptr<Backing> backing, Properties properties)
      : BlockDevice(std::move(properties)), context_(context), backing_(std::move(backing)) {}

  Task<void> pread(Request request, Reply& reply) override;
  Task<void> pwrite(Request request, Payload& payload) override;
  Task<void> flush() override;
  Task<void> trim(Request request) override;
  Task<void> zero(Request request) override;
  Task<void> cache(Request request) override;
  Task<void> extents(Request request, Extents& extents) override;
  Task<void> close() override;

 private:
  Task<void> pwrite_unaligned(Request request, Payload& payload);

  Context& context_;
  std::shared_ptr<Backing> backing_;
};

}  // namespace nbdkit
