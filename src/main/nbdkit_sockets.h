// SPDX-License-Identifier: BSD-3-Clause
// The listening sockets that the command line asks for.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/unique_fd.h"
#include "main/nbdkit_captive.h"
#include "main/nbdkit_options.h"

namespace nbdkit {

// A folder in /tmp that only this user can enter, with one socket in it. Removed with its owner.
class PrivateFolder {
 public:
  PrivateFolder() = default;
  static Result<PrivateFolder> make();
  PrivateFolder(PrivateFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  PrivateFolder& operator=(PrivateFolder&& other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }
  ~PrivateFolder() { remove(); }

  std::string socket_path() const { return path_ + "/socket"; }
  // Lets somebody else use and remove it.
  Result<void> give_to(const Identity& identity) const;
  void remove();
  // Another process removes it.
  void forget() { path_.clear(); }

 private:
  explicit PrivateFolder(std::string path) : path_(std::move(path)) {}

  std::string path_;  // empty: there is none
};

struct Sockets {
  std::vector<UniqueFd> listening;
  UniqueFd handoff;  // of --handoff
  Address address;
  PrivateFolder folder;
};

// For clients none at all with -s and, unless one is asked for, with --fd, --handoff and socket
// activation. --run alone has a private Unix socket, everything else TCP.
Result<Sockets> open_sockets(const Options& options, const Identity& identity, Log& log);

}  // namespace nbdkit
