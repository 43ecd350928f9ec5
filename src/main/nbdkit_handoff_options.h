// SPDX-License-Identifier: BSD-3-Clause
// The options that bring sockets of others: --fd and --handoff with its companions.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace nbdkit {

// --fd FD[,mode=handshake|transmission][,export=NAME]
struct GivenSocket {
  int fd = -1;
  bool transmission = false;
  std::string export_name;  // transmission
};

struct HandoffOptions {
  std::vector<GivenSocket> given;
  std::string path;  // absolute; empty without --handoff
  mode_t mode = 0600;
  std::vector<uid_t> users;
  std::vector<int> fds;

  bool any() const { return inherits() || !path.empty(); }
  // Whether a descriptor comes from who started the program.
  bool inherits() const { return !fds.empty() || !given.empty(); }

  // Each takes one option's argument. An Error is the line for the user.
  Result<void> add_given(std::string_view text);
  Result<void> set_path(std::string_view text);
  Result<void> set_mode(std::string_view text);
  Result<void> add_user(std::string_view text);

  // That no descriptor is named twice, `others` included.
  Result<void> check(const std::vector<std::optional<int>>& others) const;
};

// The number of an inherited descriptor, none of the standard ones.
Result<int> parse_fd(std::string_view option, std::string_view text);

}  // namespace nbdkit
