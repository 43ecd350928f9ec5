// SPDX-License-Identifier: BSD-3-Clause
// KeeperLog: what the keeper and its server have to say. To stderr while the user waits and in the
// foreground, then to the system's log.
#pragma once

#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/unique_fd.h"

namespace nbdkit {

// Never waits for the system's log: a line that it does not take at once is dropped. The log may
// be on the very device that we keep.
class KeeperLog final : public Log {
 public:
  static constexpr std::string_view kProgram = "nbdkit-attach";

  explicit KeeperLog(bool verbose) : Log(std::string(kProgram), verbose) {}

  // Errors and warnings go to the system's log from now on, debug messages nowhere. `socket` is
  // where that listens.
  void leave_terminal(const std::string& socket = "/dev/log");

  void write(LogLevel level, std::string_view who, std::string_view text) override;
  // A line of the server's, as it is.
  void server_line(std::string_view line);

  // The last lines, each with its time; neither debug messages nor what is longer than kKeptMax.
  static constexpr std::size_t kLinesMax = 100;
  static constexpr std::size_t kKeptMax = 512;
  std::vector<std::string> recent() const;

 private:
  void remember(std::string_view text);
  void send(int severity, std::string_view text);

  bool on_terminal_ = true;
  UniqueFd system_;
  mutable std::mutex mutex_;
  std::deque<std::string> recent_;
};

}  // namespace nbdkit
