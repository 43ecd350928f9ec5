// SPDX-License-Identifier: BSD-3-Clause
#include "journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "async/child.h"

namespace nbdkit {
namespace {

constexpr std::string_view kWho = "log";

timespec wall_clock() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return now;
}

Result<pid_t> start_shell(const std::string& script) {
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  // The server's signal mask and ignored signals are its own business.
  sigset_t none, ignored;
  ::sigemptyset(&none);
  ::sigemptyset(&ignored);
  ::sigaddset(&ignored, SIGPIPE);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &ignored);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  std::string shell = "sh", option = "-c", text = script;
  char* arguments[] = {shell.data(), option.data(), text.data(), nullptr};
  pid_t pid = 0;
  int error = ::posix_spawn(&pid, "/bin/sh", nullptr, &attributes, arguments, environ);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) return os_error("starting /bin/sh", error);
  make_child_ordinary(pid);
  return pid;
}

}  // namespace

Result<std::unique_ptr<LogFile>> LogFile::open(const std::string& path, bool append, Log& log) {
  // O_APPEND even for a fresh file: who rotates logs may cut it at any time.
  int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_APPEND | (append ? 0 : O_TRUNC);
  UniqueFd file(::open(path.c_str(), flags, 0666));
  if (!file) return os_error(fmt::format("opening logfile={}", path));
  return std::unique_ptr<LogFile>(new LogFile(path, std::move(file), log));
}

LogFile::LogFile(std::string path, UniqueFd file, Log& log)
    : path_(std::move(path)),
      file_(std::move(file)),
      log_(log),
      backlog_(0, [this](std::span<const std::string> lines) { write(lines); }) {}

void LogFile::write(std::span<const std::string> lines) {
  std::string all;
  for (const std::string& line : lines) all += line;
  std::string_view left = all;
  while (!left.empty()) {
    ssize_t written = ::write(file_.get(), left.data(), left.size());
    if (written > 0) {
      left.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno != EINTR) {
      if (!std::exchange(failed_, true)) {
        log_.error(kWho, "{}; lines are missing from the log from now on",
                   os_error(fmt::format("writing {}", path_)).message());
      }
      return;
    }
  }
}

LogScript::LogScript(std::string script, Log& log, Nanoseconds end_max)
    : script_(std::move(script)),
      log_(log),
      end_max_(end_max),
      backlog_(kLeftMax, [this](std::span<const std::string> texts) { run(texts); }) {}

void LogScript::run(std::span<const std::string> assignments) {
  for (const std::string& one : assignments) run_one(one);
}

void LogScript::run_one(const std::string& assignments) {
  pid_t pid = 0;
  {
    std::lock_guard guard(mutex_);
    if (killed_) return;
    Result<pid_t> started = start_shell(assignments + script_);
    if (!started.ok()) {
      log_.error(kWho, "logscript: {}", started.error().message());
      return;
    }
    pid = running_ = started.value();
  }
  siginfo_t ended;
  while (::waitid(P_PID, static_cast<id_t>(pid), &ended, WEXITED | WNOWAIT) < 0 && errno == EINTR) {
  }
  std::lock_guard guard(mutex_);  // The number must not be another process's when kill() uses it.
  ::waitpid(pid, nullptr, 0);
  running_ = 0;
}

void LogScript::kill() {
  std::lock_guard guard(mutex_);
  killed_ = true;
  if (running_ != 0) ::kill(running_, SIGKILL);
}

void LogScript::finish() {
  if (backlog_.finish(end_max_)) return;
  log_.warning(kWho, "logscript= has not ended some time after the last request; killing it");
  kill();
  (void)backlog_.finish(Seconds(3600));
}

Result<void> Journal::open(const std::string& file, bool append, const std::string& script,
                           Log& log) {
  if (!file.empty()) {
    auto opened = LogFile::open(file, append, log);
    if (!opened.ok()) return std::move(opened).error();
    file_ = std::move(opened).value();
  }
  if (!script.empty()) script_ = std::make_unique<LogScript>(script, log);
  return {};
}

void Journal::write_now(const Event& event) {
  if (file_) file_->backlog().put_now(event.line(wall_clock()));
  if (script_) script_->backlog().put_now(event.assignments());
}

void Journal::write(Loop& loop, const Event& event) {
  if (file_) file_->backlog().put(loop, event.line(wall_clock()));
  if (script_) script_->backlog().put(loop, event.assignments());
}

Task<void> Journal::written(Loop& loop) {
  if (file_) co_await file_->backlog().caught_up(loop);
  if (script_) co_await script_->backlog().caught_up(loop);
}

void Journal::finish() {
  if (file_) (void)file_->backlog().finish(Seconds(3600));
  if (script_) script_->finish();
}

}  // namespace nbdkit
