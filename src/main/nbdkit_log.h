// SPDX-License-Identifier: BSD-3-Clause
// ServerLog: the log of nbdkit. It goes to stderr; in the background, where nobody reads that,
// errors go to the system log. --log says otherwise.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>

#include "async/log_ring.h"
#include "base/log.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace nbdkit {

// Where errors and warnings go. Debug messages always go to stderr.
struct LogTarget {
  enum class Kind { automatic, standard_error, system_log, journal, file, nowhere };
  Kind kind = Kind::automatic;
  std::string path;  // of the file, absolute

  // default, stderr, syslog, journal, null, or an absolute path.
  static Result<LogTarget> parse(std::string_view text);
};

// There is one in the process: syslog() keeps the program's name.
class ServerLog final : public Log {
 public:
  ServerLog(std::string program, bool verbose);
  ~ServerLog() override;

  // Once, before there are threads. Opens what is to be written to.
  Result<void> direct_to(const LogTarget& target);
  // Nobody reads stderr any more: with LogTarget::automatic the system log is used from now on.
  void leave_terminal();

  // From now on nobody who writes waits: a thread of the log's own does it.
  Result<void> write_elsewhere();
  // Writes what that thread still has, and ends it. What others say at this moment may be lost.
  void end_elsewhere();

  void write(LogLevel level, std::string_view who, std::string_view text) override;

 private:
  class Journal;

  void write_here(LogLevel level, std::string_view who, std::string_view text);
  void use_system_log();
  void write_to_system_log(LogLevel level, std::string_view who, std::string_view text) const;

  std::string name_;
  LogTarget::Kind wanted_ = LogTarget::Kind::automatic;
  std::atomic<LogTarget::Kind> kind_{LogTarget::Kind::standard_error};
  UniqueFd file_;
  std::unique_ptr<Log> file_log_;
  std::unique_ptr<Journal> journal_;
  std::atomic<bool> elsewhere_{false};
  std::unique_ptr<LogRing> ring_;  // Last: what it uses is there until its end.
};

}  // namespace nbdkit
