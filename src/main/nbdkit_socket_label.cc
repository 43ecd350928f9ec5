// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_socket_label.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <utility>

#include "base/unique_fd.h"

namespace nbdkit {
namespace {

// What libselinux's setsockcreatecon(3) does; nothing else of that library is needed here. An empty
// text takes the label back.
bool write_label(std::string_view label) {
  UniqueFd file(::open("/proc/thread-self/attr/sockcreate", O_WRONLY | O_CLOEXEC));
  return file && ::write(file.get(), label.data(), label.size()) >= 0;
}

}  // namespace

Result<SocketLabel> SocketLabel::set(const std::string& label) {
  if (label.empty()) return SocketLabel(false);
  if (!write_label(label)) {
    Error error = os_error(fmt::format("--selinux-label={}", label));
    return Error(error.code, fmt::format("{} (SELinux is not enabled, or its policy does not know "
                                         "the label or does not allow it)",
                                         error.message()));
  }
  return SocketLabel(true);
}

SocketLabel::SocketLabel(SocketLabel&& other) noexcept : set_(std::exchange(other.set_, false)) {}

SocketLabel::~SocketLabel() {
  if (set_) write_label({});
}

}  // namespace nbdkit
