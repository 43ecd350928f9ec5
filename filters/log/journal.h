// SPDX-License-Identifier: BSD-3-Clause
// Journal: where events go: to a file, to a script, or to both.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "backlog.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "event.h"

namespace nbdkit {

// Lines reach the file in the order of the events, one write(2) for all that have come together.
class LogFile {
 public:
  // `path` is absolute. The file is emptied unless `append`.
  static Result<std::unique_ptr<LogFile>> open(const std::string& path, bool append, Log& log);

  Backlog& backlog() { return backlog_; }

 private:
  LogFile(std::string path, UniqueFd file, Log& log);
  void write(std::span<const std::string> lines);

  const std::string path_;
  const UniqueFd file_;
  Log& log_;
  bool failed_ = false;  // Has been told; once is enough.
  Backlog backlog_;
};

// Runs /bin/sh for every event, one after the other, and looks neither at its output nor at its
// exit status.
class LogScript {
 public:
  // More events than these wait for a slow script only when their requests wait as well.
  static constexpr std::size_t kLeftMax = 1024;
  // When the server ends the script has this long for what is left; then it is killed.
  static constexpr Seconds kEndMax{10};

  LogScript(std::string script, Log& log) : LogScript(std::move(script), log, kEndMax) {}
  LogScript(std::string script, Log& log, Nanoseconds end_max);

  Backlog& backlog() { return backlog_; }
  void finish();

 private:
  void run(std::span<const std::string> assignments);
  void run_one(const std::string& assignments);
  void kill();

  const std::string script_;
  Log& log_;
  const Nanoseconds end_max_;
  std::mutex mutex_;
  pid_t running_ = 0;
  bool killed_ = false;
  Backlog backlog_;
};

// Thread-safe but for open() and finish().
class Journal {
 public:
  // `file` and `script` may be empty.
  Result<void> open(const std::string& file, bool append, const std::string& script, Log& log);
  // Before there are threads.
  void write_now(const Event& event);
  void write(Loop& loop, const Event& event);
  // Ends when what was written before is in the file.
  Task<void> written(Loop& loop);
  void finish();

 private:
  std::unique_ptr<LogFile> file_;
  std::unique_ptr<LogScript> script_;
};

}  // namespace nbdkit
