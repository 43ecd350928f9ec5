// SPDX-License-Identifier: BSD-3-Clause
// MetricsServer: answers GET /metrics over HTTP/1.1, one request a connection.
#pragma once

#include <sys/types.h>

#include <functional>
#include <list>
#include <memory>
#include <string>

#include "async/gate.h"
#include "async/loop.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace nbdkit {

// One loop's; its thread only. What a client sends changes nothing but its answer.
class MetricsServer final : private Watcher {
 public:
  // Of more than that the one that is there longest is hung up on.
  static constexpr std::size_t kClientsMax = 16;
  static constexpr std::size_t kRequestMax = 4096;
  // After the answer: what is read, and thrown away, so that a client that is still sending sees
  // it.
  static constexpr std::size_t kDrainMax = 64 * 1024;

  using Text = std::function<Task<std::string>()>;

  // `text` makes what is answered. What is passed outlives this.
  MetricsServer(Loop& loop, Text text);
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;
  ~MetricsServer();  // stop() has ended, unless start() was never called.

  // `address` is [HOST]:PORT, HOST in numbers, or the absolute path of a Unix socket, which gets
  // mode 0600; check() says whether it is one.
  static Result<void> check(const std::string& address);
  // Takes the address. Connections wait until start().
  Result<void> open(const std::string& address);
  Result<void> start();
  // Hangs up on everybody; ends when no text is being made.
  Task<void> stop();
  bool is_open() const { return static_cast<bool>(listener_); }

 private:
  class Client;

  void ready(std::uint32_t epoll_events) noexcept override;
  void answer(const Client& client, bool with_body);
  Result<void> open_path(const std::string& path);

  Loop& loop_;
  Text text_;
  Gate gate_;  // texts that are being made
  UniqueFd listener_;
  bool watching_ = false;
  std::string path_;  // of our socket; empty: none
  ino_t inode_ = 0;   // of path_
  std::list<std::unique_ptr<Client>> clients_;
  std::uint64_t last_number_ = 0;
};

}  // namespace nbdkit
