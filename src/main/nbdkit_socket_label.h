// SPDX-License-Identifier: BSD-3-Clause
// SocketLabel: which SELinux label the sockets get that this program makes (--selinux-label).
#pragma once

#include <string>

#include "base/result.h"

namespace nbdkit {

// While it lives, sockets that this thread makes have the label; it ends on the same thread.
class SocketLabel {
 public:
  // Empty: whatever the policy says. The Error names the option.
  static Result<SocketLabel> set(const std::string& label);
  SocketLabel(SocketLabel&& other) noexcept;
  SocketLabel& operator=(SocketLabel&&) = delete;
  ~SocketLabel();

 private:
  explicit SocketLabel(bool set) : set_(set) {}

  bool set_;
};

}  // namespace nbdkit
