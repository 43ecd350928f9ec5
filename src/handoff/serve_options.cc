// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/serve_options.h"

#include <fmt/format.h>

#include "proto/handshake.h"

namespace nbdkit {

StartOptions start_options(const HandoffServe& serve, std::optional<uid_t> owner) {
  bool transmission = serve.mode == HandoffServe::Mode::transmission;
  StartOptions options;
  options.mode = transmission ? StartOptions::Mode::transmission : StartOptions::Mode::handshake;
  options.export_name = serve.export_name;
  options.kernel = serve.kernel;
  options.foreign = true;
  options.owner = owner;
  options.hold = serve.hold;
  if (serve.state) {
    options.agreement = serve.state->agreement;
    options.unread = serve.state->unread;
  }
  return options;
}

Result<void> check_expectation(const HandoffServe& serve, const ExportInfo& info) {
  if (serve.size && *serve.size != info.size) {
    return Error(std::errc::invalid_argument,
                 fmt::format("the export has {} bytes, not {}", info.size, *serve.size));
  }
  if (!serve.flags) return {};
  std::uint16_t flags = info.transmission_flags;
  if (serve.state && serve.state->agreement.structured_replies) {
    flags |= transmission_flag::kDontFragment;
  }
  if ((*serve.flags & ~flags) != 0) {
    return Error(
        std::errc::invalid_argument,
        fmt::format("the export has the transmission flags {:#x}, not {:#x}", flags, *serve.flags));
  }
  // The one flag whose absence promises something.
  if ((flags & ~*serve.flags & transmission_flag::kReadOnly) != 0) {
    return Error(std::errc::invalid_argument, "the export is read-only");
  }
  return {};
}

}  // namespace nbdkit
