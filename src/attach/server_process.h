// SPDX-License-Identifier: BSD-3-Clause
// ServerProcess: the server of one device: its process, what it says, and the socket over which it
// is given connections.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "async/fd_watch.h"
#include "async/loop.h"
#include "attach/child_process.h"
#include "attach/keeper_log.h"
#include "attach/options.h"
#include "attach/server_command.h"
#include "handoff/handoff_client.h"

namespace nbdkit {

// Lent to a start.
struct ServerResources {
  int program = -1;  // -1: whatever is at the path
  int kept_memory = -1;
  // What it holds for a keeper to come; -1: nothing.
  int lock = -1;
  int options = -1;
  int door = -1;
  int ledger = -1;
  // Descriptors that the plugin's parameters name, where they are not under the same number here.
  std::map<int, int> named{};
};

// One loop's; its thread only. Started, or adopted, once.
class ServerProcess {
 public:
  // Of what it says, until it is ready.
  static constexpr std::size_t kLinesMax = 64;
  static constexpr std::size_t kLineMax = 4096;
  // How long it may take to end: its own drain (server/server.h), then what cannot be refused.
  static constexpr Seconds kDrainMax{12};
  static constexpr Seconds kKillMax{5};

  ServerProcess(Loop& loop, KeeperLog& log);
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;
  ~ServerProcess();  // stop() has ended, or it was never started.

  // `ended` is called once, on the loop, when the process ends by itself.
  Result<void> start(const AttachOptions& options, const ServerResources& resources,
                     std::function<void()> ended);
  // One that serves already, of another keeper. `words` and `control`, without which there is no
  // handoff(), may be empty.
  Result<void> adopt(pid_t pid, UniqueFd process, UniqueFd words, UniqueFd control,
                     const ServerDescriptors& numbers, std::function<void()> ended);

  HandoffClient& handoff() { return *handoff_; }
  bool has_handoff() const { return handoff_ != nullptr; }
  // Whoever waits for an answer of it gets operation_canceled.
  void hang_up();
  // Under which numbers it has what it was given; unknown of an adopted one.
  const ServerDescriptors& numbers() const { return numbers_; }
  std::optional<std::int64_t> pid() const;  // while it runs
  // How it ended by itself: "was killed by signal 9 (Killed)".
  const std::string& end() const { return end_; }
  // Whether it has ended of what it did, and not of a signal that somebody has sent. Nobody knows
  // how one that was adopted ends: that may be either.
  bool ended_of_itself() const;
  bool ended_unseen() const { return !end_.empty() && status_ == ChildProcess::kUnknownEnd; }

  // What its lines were kept for: from now on they go to the log at once. Those that it has said
  // already go there too.
  void is_ready();

  // Ends with the Error that tells why it could not be asked, in its own words if it has ended.
  // Waits for that, a moment.
  Task<void> explain(Error error);

  // Ends it: what is under way is finished, unless `at_once`. Ends when the process is gone.
  Task<void> stop(bool at_once);
  // Leaves it to the next keeper.
  void let_go();

 private:
  Result<void> watch();
  Result<void> talk(UniqueFd control);
  void read_lines();
  void take_line(std::string line);
  void check_end();

  Loop& loop_;
  KeeperLog& log_;
  std::optional<ChildProcess> child_;
  ServerDescriptors numbers_;
  std::unique_ptr<HandoffClient> handoff_;
  std::function<void()> ended_;
  std::string end_;
  int status_ = ChildProcess::kUnknownEnd;  // as waitpid() says it, when it has ended
  UniqueFd words_;                          // its stderr
  std::string partial_;
  std::deque<std::string> lines_;
  bool ready_ = false;
  bool stopping_ = false;
  std::unique_ptr<FdWatch> words_watch_;
  std::unique_ptr<FdWatch> end_watch_;
};

}  // namespace nbdkit
