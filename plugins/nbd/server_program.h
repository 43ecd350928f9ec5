// SPDX-License-Identifier: BSD-3-Clause
// ServerProgram: a program that is run as the server, and given a listening socket as the service
// manager does it (LISTEN_FDS). It ends with this object.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "base/parse.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace nbdkit {

class ServerProgram {
 public:
  static constexpr Seconds kPatience{5};  // between SIGTERM and SIGKILL

  // argv[0] is looked for in PATH. No thread may exist yet.
  static Result<std::unique_ptr<ServerProgram>> start(const std::vector<std::string>& argv);
  ~ServerProgram();

  const std::string& socket_path() const { return path_; }
  // Removes the socket's name: nobody else shall connect.
  void forget_socket();

 private:
  ServerProgram() = default;

  Result<UniqueFd> listen();
  Result<void> run(const std::vector<std::string>& argv, UniqueFd listener);

  std::string folder_;
  std::string path_;
  pid_t pid_ = -1;
};

}  // namespace nbdkit
