// SPDX-License-Identifier: BSD-3-Clause
// UnixListener: a Unix socket whose connections a test hands on, and can break.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"

namespace nbdkit {

class UnixListener {
 public:
  // `accepted` runs on a thread of its own, one connection after the other.
  explicit UnixListener(std::function<void(UniqueFd)> accepted);
  ~UnixListener();

  const std::string& path() const { return path_; }
  // Both ends of every connection see the end of the stream.
  void break_connections();
  // Nobody can connect, or everybody again.
  void close();
  void open();
  std::size_t accepted() const;

 private:
  void accept_all();

  std::string folder_;
  std::string path_;
  std::function<void(UniqueFd)> accepted_;
  UniqueFd socket_;
  std::thread thread_;
  mutable std::mutex mutex_;
  std::vector<UniqueFd> connections_;
};

}  // namespace nbdkit
