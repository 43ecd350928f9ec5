// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_handoff_options.h"

#include <fmt/format.h>
#include <pwd.h>
#include <sys/un.h>

#include <algorithm>
#include <climits>
#include <cstdint>
#include <utility>

#include "base/parse.h"
#include "block/params.h"

namespace nbdkit {
namespace {

constexpr std::size_t kUnixPathMax = sizeof(sockaddr_un::sun_path) - 1;
constexpr std::size_t kExportNameMax = 4096;  // bytes (NBD protocol, "Values": strings)
// A number that no user has: setuid() takes it for "no change".
constexpr std::uint64_t kUserMax = UINT32_MAX - 1;

Error bad(std::string text) { return Error(std::errc::invalid_argument, std::move(text)); }

// Takes `prefix` off the front of the text when it is there.
bool skip(std::string_view& text, std::string_view prefix) {
  if (text.substr(0, prefix.size()) != prefix) return false;
  text.remove_prefix(prefix.size());
  return true;
}

}  // namespace

Result<int> parse_fd(std::string_view option, std::string_view text) {
  Result<std::uint64_t> fd = parse_unsigned(text, INT_MAX);
  if (!fd.ok()) return bad(fmt::format("{}: {}", option, fd.error().message()));
  if (fd.value() <= 2) {
    return bad(fmt::format("{}: {} is stdin, stdout or stderr; pass a descriptor above 2", option,
                           fd.value()));
  }
  return static_cast<int>(fd.value());
}

Result<void> HandoffOptions::add_given(std::string_view text) {
  std::string_view rest = text;
  Result<int> fd = parse_fd("--fd", rest.substr(0, rest.find(',')));
  if (!fd.ok()) return std::move(fd).error();
  rest.remove_prefix(std::min(rest.find(','), rest.size()));
  GivenSocket socket;
  socket.fd = fd.value();
  if (skip(rest, ",mode=")) {
    std::string_view mode = rest.substr(0, rest.find(','));
    if (mode != "handshake" && mode != "transmission") {
      return bad(fmt::format("--fd {}: mode is handshake or transmission, not '{}'", text, mode));
    }
    socket.transmission = mode == "transmission";
    rest.remove_prefix(mode.size());
  }
  // The last part, since a name may have commas.
  if (skip(rest, ",export=")) socket.export_name = std::exchange(rest, {});
  if (!rest.empty()) {
    return bad(
        fmt::format("--fd {}: what follows the descriptor is [,mode=MODE][,export=NAME]", text));
  }
  if (!socket.export_name.empty() && !socket.transmission) {
    return bad(fmt::format(
        "--fd {}: with a handshake the client names its export; export= needs mode=transmission",
        text));
  }
  if (socket.export_name.size() > kExportNameMax) {
    return bad(fmt::format("--fd {}: the name of an export has at most {} bytes", socket.fd,
                           kExportNameMax));
  }
  given.push_back(std::move(socket));
  return {};
}

Result<void> HandoffOptions::set_path(std::string_view text) {
  Result<std::string> absolute = absolute_path(text);
  if (!absolute.ok()) return bad(fmt::format("--handoff: {}", absolute.error().message()));
  if (absolute.value().size() > kUnixPathMax) {
    return bad(fmt::format("--handoff: path too long: length {} > max {} bytes",
                           absolute.value().size(), kUnixPathMax));
  }
  path = std::move(absolute).value();
  return {};
}

Result<void> HandoffOptions::set_mode(std::string_view text) {
  bool octal = !text.empty() && text.size() <= 4 &&
               text.find_first_not_of("01234567") == std::string_view::npos;
  mode_t bits = 0;
  for (char digit : text) bits = bits << 3 | static_cast<mode_t>(digit - '0');
  if (!octal || bits > 0777) {
    return bad(fmt::format("--handoff-mode: '{}' is no mode in octal (0000 to 0777)", text));
  }
  mode = bits;
  return {};
}

Result<void> HandoffOptions::add_user(std::string_view text) {
  const std::string name(text);
  if (const passwd* entry = ::getpwnam(name.c_str())) {
    users.push_back(entry->pw_uid);
    return {};
  }
  Result<std::uint64_t> number = parse_unsigned(text, kUserMax);
  if (!number.ok()) return bad(fmt::format("--handoff-user: {} is no user name or uid", text));
  users.push_back(static_cast<uid_t>(number.value()));
  return {};
}

Result<void> HandoffOptions::check(const std::vector<std::optional<int>>& others) const {
  std::vector<int> named;
  for (const GivenSocket& socket : given) named.push_back(socket.fd);
  named.insert(named.end(), fds.begin(), fds.end());
  for (const std::optional<int>& other : others) {
    if (other) named.push_back(*other);
  }
  std::sort(named.begin(), named.end());
  auto twice = std::adjacent_find(named.begin(), named.end());
  if (twice == named.end()) return {};
  return bad(fmt::format("descriptor {} is given twice", *twice));
}

}  // namespace nbdkit
