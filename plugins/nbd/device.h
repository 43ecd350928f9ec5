// SPDX-License-Identifier: BSD-3-Clause
// RemoteDevice: one client's view of the other server's export.
#pragma once

#include <memory>
#include <string>

#include "block/context.h"
#include "block/device.h"
#include "client/remote_export.h"
#include "home.h"

namespace nbdkit {

// `address` tells servers apart.
Properties properties_of(const ClientAgreement& agreement, const std::string& address);

class RemoteDevice final : public BlockDevice {
 public:
  // With connections of its own.
  RemoteDevice(Context& context, std::unique_ptr<RemoteExport> own, Properties properties);
  // With the connection that all clients share.
  RemoteDevice(Context& context, Home& home, Properties properties);

  Task<void> pread(Request request, Reply& reply) override;
  Task<void> pwrite(Request request, Payload& payload) override;
  Task<void> flush() override;
  Task<void> trim(Request request) override;
  Task<void> zero(Request request) override;
  Task<void> cache(Request request) override;
  Task<void> extents(Request request, Extents& extents) override;
  Task<void> close() override;

 private:
  // Runs the Task that `start` makes where the remote lives.
  template <typename Start>
  Task<void> ask(Start start);

  Context& context_;
  std::unique_ptr<RemoteExport> own_;
  RemoteExport& remote_;
  Home* home_ = nullptr;
  std::uint64_t told_;  // how many losses this client's flushes have reported
};

}  // namespace nbdkit
