// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_activation.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/parse.h"
#include "handoff/descriptor_rules.h"

namespace nbdkit {
namespace {

constexpr int kFirst = 3;  // SD_LISTEN_FDS_START

Error bad(std::string text) { return Error(std::errc::invalid_argument, std::move(text)); }

std::optional<std::string> take_variable(const char* name) {
  const char* value = ::getenv(name);
  std::optional<std::string> text;
  if (value != nullptr) text = value;
  ::unsetenv(name);
  return text;
}

std::vector<std::string> split_names(std::string_view text) {
  std::vector<std::string> names;
  for (;;) {
    std::size_t end = text.find(':');
    names.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return names;
    text.remove_prefix(end + 1);
  }
}

Result<std::vector<std::string>> names_of(const std::optional<std::string>& text,
                                          std::size_t count) {
  if (!text) return std::vector<std::string>(count);
  std::vector<std::string> names = split_names(*text);
  if (names.size() == count) return names;
  return bad(
      fmt::format("LISTEN_FDNAMES: there are {} names for {} descriptors", names.size(), count));
}

Error unusable(int fd, std::string_view what) {
  return bad(
      fmt::format("LISTEN_FDS: descriptor {} is {}; a stream socket, or a Unix socket of the type "
                  "SOCK_SEQPACKET, is needed",
                  fd, what));
}

Result<void> sort_in(UniqueFd socket, Activation& activation) {
  const int fd = socket.get();
  Result<SocketKind> asked = socket_kind(fd);
  if (!asked.ok()) return unusable(fd, asked.error().message());
  const SocketKind& kind = asked.value();
  const bool control = kind.type == SOCK_SEQPACKET && kind.family == AF_UNIX;
  if (kind.state == SocketKind::State::unconnected || (kind.type != SOCK_STREAM && !control)) {
    return unusable(fd, describe(kind));
  }
  const bool listens = kind.state == SocketKind::State::listening;
  // Others have it, too, and may be faster with accept().
  if (listens && ::fcntl(fd, F_SETFL, O_NONBLOCK) != 0) return os_error("O_NONBLOCK");
  auto& group = control   ? activation.control
                : listens ? activation.listening
                          : activation.connected;
  group.push_back(std::move(socket));
  return {};
}

}  // namespace

Result<Activation> take_activation(Log& log) {
  const std::optional<std::string> pid = take_variable("LISTEN_PID");
  const std::optional<std::string> count = take_variable("LISTEN_FDS");
  const std::optional<std::string> fd_names = take_variable("LISTEN_FDNAMES");
  Activation activation;
  if (!pid || !count) return activation;
  Result<std::uint64_t> number = parse_unsigned(*pid, INT_MAX);
  if (!number.ok()) return bad(fmt::format("LISTEN_PID: '{}' is no process id", *pid));
  if (number.value() != static_cast<std::uint64_t>(::getpid())) {
    log.warning("", "LISTEN_PID: the sockets are those of process {}, and not used", *pid);
    return activation;
  }
  Result<std::uint64_t> total = parse_unsigned(*count, Activation::kDescriptorsMax);
  if (!total.ok() || total.value() == 0) {
    return bad(fmt::format("LISTEN_FDS: '{}' is no number of descriptors (1 to {})", *count,
                           Activation::kSocketsMax));
  }
  Result<std::vector<std::string>> names = names_of(fd_names, total.value());
  if (!names.ok()) return std::move(names).error();
  activation.end = kFirst + static_cast<int>(total.value());
  std::size_t sockets = 0;
  for (int fd = kFirst; fd < activation.end; ++fd) {
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
      return bad(fmt::format("LISTEN_FDS: {} is not an open descriptor", fd));
    }
    std::string& name = names.value()[static_cast<std::size_t>(fd - kFirst)];
    if (is_stored_name(name)) {
      activation.kept.push_back({std::move(name), UniqueFd(fd)});
      continue;
    }
    if (++sockets > Activation::kSocketsMax) {
      return bad(fmt::format("LISTEN_FDS: there are more than {} sockets", sockets - 1));
    }
    NBDKIT_TRY(sort_in(UniqueFd(fd), activation));
  }
  return activation;
}

Result<void> check_activation(const Activation& activation, const Options& options) {
  if (activation.has_sockets()) {
    const std::array<std::pair<bool, std::string_view>, 5> conflicts{{
        {!options.ip_addresses.empty(), "-i"},
        {options.port.has_value(), "-p"},
        {options.single, "-s"},
        {options.listens_on_unix(), "-U"},
        {options.run.has_value(), "--run"},
    }};
    for (const auto& [given, option] : conflicts) {
      if (given) return bad(fmt::format("{} cannot be used with socket activation", option));
    }
  }
  std::vector<std::optional<int>> named{options.kept_memory_fd, options.request_ledger_fd};
  named.insert(named.end(), options.handoff.fds.begin(), options.handoff.fds.end());
  for (const GivenSocket& socket : options.handoff.given) named.push_back(socket.fd);
  for (const std::optional<int>& fd : named) {
    if (fd && *fd < activation.end) {
      return bad(fmt::format("descriptor {} is given twice: LISTEN_FDS has it", *fd));
    }
  }
  return {};
}

}  // namespace nbdkit
