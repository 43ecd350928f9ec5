// SPDX-License-Identifier: BSD-3-Clause
#include "main/attach_report.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <string_view>

#include "base/parse.h"

namespace nbdkit {
namespace {

// The keeper's word: this and the node, or the exit code, a blank and why.
constexpr std::string_view kReady = "ready ";

}  // namespace

void print_error(const Error& error) {
  std::string line = fmt::format("{}: {}\n", KeeperLog::kProgram, error.message());
  std::fwrite(line.data(), 1, line.size(), stderr);
}

void ForegroundReport::ready(const std::string& device) {
  turn_.end();
  fmt::print("{}\n", device);
  std::fflush(stdout);
  Result<void> told = manager_.send("READY=1");
  if (!told.ok()) print_error(told.error());
}

void BackgroundReport::ready(const std::string& device) {
  turn_.end();
  log_.leave_terminal();
  // Whoever reads our stderr to its end must not wait for the device's.
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (null) ::dup2(null.get(), STDERR_FILENO);
  // The folder that we were started in may be on a file system that has to go one day.
  if (::chdir("/") < 0) log_.debug("", "{}", os_error("/").message());
  send(std::string(kReady) + device);
}

void BackgroundReport::failed(const Error& error) {
  send(fmt::format("{} {}", static_cast<int>(exit_code_of(error)), error.message()));
}

void BackgroundReport::send(const std::string& message) {
  std::string_view left = message;
  while (!left.empty()) {
    ssize_t written = ::write(pipe_.get(), left.data(), left.size());
    if (written < 0 && errno != EINTR) break;  // Nobody waits any more.
    if (written > 0) left.remove_prefix(static_cast<std::size_t>(written));
  }
  pipe_.reset();
}

ExitCode pass_report_on(UniqueFd pipe) {
  std::string word;
  std::array<char, 4096> buffer;
  for (;;) {
    ssize_t length = ::read(pipe.get(), buffer.data(), buffer.size());
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) break;
    word.append(buffer.data(), static_cast<std::size_t>(length));
  }
  if (word.starts_with(kReady)) {
    fmt::print("{}\n", word.substr(kReady.size()));
    return std::fflush(stdout) == 0 ? ExitCode::ok : ExitCode::failure;
  }
  std::size_t blank = word.find(' ');
  auto code = parse_unsigned(word.substr(0, blank), static_cast<int>(ExitCode::not_supported));
  if (blank == std::string::npos || !code.ok()) {
    print_error(Error(std::errc::io_error, "the keeper died before the device was ready"));
    return ExitCode::failure;
  }
  print_error(Error(std::errc::io_error, word.substr(blank + 1)));
  return static_cast<ExitCode>(code.value());
}

}  // namespace nbdkit
