// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_log.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace nbdkit {
namespace {

constexpr std::string_view kJournalPath = "/run/systemd/journal/socket";

int priority(LogLevel level) { return level == LogLevel::error ? LOG_ERR : LOG_WARNING; }

std::string line_of(std::string_view who, std::string_view text) {
  return fmt::format("{}{}{}", who, who.empty() ? "" : ": ", text);
}

}  // namespace

// The native protocol of systemd-journald: one datagram an entry, of lines FIELD=VALUE.
class ServerLog::Journal {
 public:
  static Result<std::unique_ptr<Journal>> open(std::string program) {
    UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    kJournalPath.copy(address.sun_path, sizeof address.sun_path - 1);
    if (!socket ||
        ::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      return os_error(fmt::format("--log=journal: {}", kJournalPath));
    }
    return std::unique_ptr<Journal>(new Journal(std::move(program), std::move(socket)));
  }

  void write(LogLevel level, std::string_view line) const {
    std::string entry = fmt::format("PRIORITY={}\nSYSLOG_IDENTIFIER={}\nSYSLOG_FACILITY={}\n",
                                    priority(level), program_, LOG_DAEMON >> 3);
    if (line.find('\n') == line.npos) {
      entry += fmt::format("MESSAGE={}\n", line);
    } else {
      // A value of several lines: its length as 64 bits, little endian, and then the value.
      entry += "MESSAGE\n";
      for (unsigned shift = 0; shift < 64; shift += 8) {
        entry.push_back(static_cast<char>(std::uint64_t{line.size()} >> shift));
      }
      entry += fmt::format("{}\n", line);
    }
    (void)::send(socket_.get(), entry.data(), entry.size(), MSG_NOSIGNAL);
  }

 private:
  Journal(std::string program, UniqueFd socket)
      : program_(std::move(program)), socket_(std::move(socket)) {}

  const std::string program_;
  const UniqueFd socket_;
};

Result<LogTarget> LogTarget::parse(std::string_view text) {
  if (text == "default") return LogTarget{};
  if (text == "stderr") return LogTarget{Kind::standard_error, {}};
  if (text == "syslog") return LogTarget{Kind::system_log, {}};
  if (text == "journal") return LogTarget{Kind::journal, {}};
  if (text == "null") return LogTarget{Kind::nowhere, {}};
  if (text.starts_with('/')) return LogTarget{Kind::file, std::string(text)};
  return Error(std::errc::invalid_argument,
               fmt::format("--log: '{}' is none of default, stderr, syslog, journal, null, and the "
                           "absolute path of a file",
                           text));
}

ServerLog::ServerLog(std::string program, bool verbose) : Log(std::move(program), verbose) {}
ServerLog::~ServerLog() = default;

Result<void> ServerLog::direct_to(const LogTarget& target) {
  wanted_ = target.kind;
  switch (target.kind) {
    case LogTarget::Kind::automatic:
      return {};
    case LogTarget::Kind::system_log:
      use_system_log();
      return {};
    case LogTarget::Kind::journal: {
      Result<std::unique_ptr<Journal>> journal = Journal::open(std::string(program()));
      if (!journal.ok()) return std::move(journal).error();
      journal_ = std::move(journal).value();
      break;
    }
    case LogTarget::Kind::file:
      file_.reset(::open(target.path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600));
      if (!file_) return os_error(fmt::format("--log: {}", target.path));
      file_log_ = std::make_unique<Log>(std::string(program()), false, file_.get());
      break;
    case LogTarget::Kind::standard_error:
    case LogTarget::Kind::nowhere:
      break;
  }
  kind_ = target.kind;
  return {};
}

void ServerLog::leave_terminal() {
  if (wanted_ == LogTarget::Kind::automatic) use_system_log();
}

void ServerLog::use_system_log() {
  // Keeps the pointer.
  name_ = program();
  // Connected now: when descriptors have run out it is too late, and that is to be said there.
  ::openlog(name_.c_str(), LOG_PID | LOG_NDELAY, LOG_DAEMON);
  kind_ = LogTarget::Kind::system_log;
}

void ServerLog::write_to_system_log(LogLevel level, std::string_view who,
                                    std::string_view text) const {
  const std::string line = line_of(who, text);
  ::syslog(priority(level), "%.*s", static_cast<int>(line.size()), line.data());
}

Result<void> ServerLog::write_elsewhere() {
  auto write = [this](LogLevel level, std::string_view who, std::string_view text) {
    write_here(level, who, text);
  };
  Result<std::unique_ptr<LogRing>> ring = LogRing::start(write);
  if (!ring.ok()) return std::move(ring).error();
  ring_ = std::move(ring).value();
  elsewhere_ = true;
  return {};
}

void ServerLog::end_elsewhere() {
  if (elsewhere_.exchange(false)) ring_->stop();
}

void ServerLog::write(LogLevel level, std::string_view who, std::string_view text) {
  if (!elsewhere_) return write_here(level, who, text);
  const int saved = errno;
  ring_->push(level, who, text);
  errno = saved;
}

void ServerLog::write_here(LogLevel level, std::string_view who, std::string_view text) {
  if (level == LogLevel::debug) return Log::write(level, who, text);
  const int saved = errno;
  switch (kind_) {
    case LogTarget::Kind::automatic:
    case LogTarget::Kind::standard_error:
      Log::write(level, who, text);
      break;
    case LogTarget::Kind::system_log:
      write_to_system_log(level, who, text);
      break;
    case LogTarget::Kind::journal:
      journal_->write(level, line_of(who, text));
      break;
    case LogTarget::Kind::file:
      file_log_->write(level, who, text);
      break;
    case LogTarget::Kind::nowhere:
      break;
  }
  errno = saved;
}

}  // namespace nbdkit
