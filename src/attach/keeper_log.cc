// SPDX-License-Identifier: BSD-3-Clause
#include "attach/keeper_log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include <cstring>

namespace nbdkit {
namespace {

int severity_of(LogLevel level) {
  switch (level) {
    case LogLevel::error:
      return LOG_ERR;
    case LogLevel::warning:
      return LOG_WARNING;
    case LogLevel::debug:
      return LOG_DEBUG;
  }
  return LOG_ERR;
}

}  // namespace

void KeeperLog::leave_terminal(const std::string& socket) {
  on_terminal_ = false;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket.size() >= sizeof(address.sun_path)) return;
  std::memcpy(address.sun_path, socket.data(), socket.size());
  UniqueFd log(::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!log) return;
  // A machine without such a log is told nothing.
  if (::connect(log.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
    system_ = std::move(log);
  }
}

void KeeperLog::write(LogLevel level, std::string_view who, std::string_view text) {
  std::string line = who.empty() ? std::string(text) : fmt::format("{}: {}", who, text);
  if (level != LogLevel::debug) remember(line);
  if (on_terminal_) return Log::write(level, who, text);
  if (level != LogLevel::debug) send(severity_of(level), line);
}

std::vector<std::string> KeeperLog::recent() const {
  std::lock_guard lock(mutex_);
  return {recent_.begin(), recent_.end()};
}

void KeeperLog::remember(std::string_view text) {
  std::string line =
      fmt::format("{:%Y-%m-%dT%H:%M:%SZ} {}", fmt::gmtime(std::chrono::system_clock::now()),
                  text.substr(0, kKeptMax));
  std::lock_guard lock(mutex_);
  recent_.push_back(std::move(line));
  if (recent_.size() > kLinesMax) recent_.pop_front();
}

void KeeperLog::server_line(std::string_view line) {
  if (line.find(" debug: ") == std::string_view::npos) remember(line);
  if (on_terminal_) {
    std::string text(line);
    text.push_back('\n');
    while (::write(2, text.data(), text.size()) < 0 && errno == EINTR) {
    }
    return;
  }
  if (line.find(" debug: ") == std::string_view::npos) send(LOG_ERR, line);
}

void KeeperLog::send(int severity, std::string_view text) {
  if (!system_) return;
  std::string line =
      fmt::format("<{}>{}[{}]: {}", LOG_DAEMON | severity, kProgram, ::getpid(), text);
  ::send(system_.get(), line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace nbdkit
