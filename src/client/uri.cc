// SPDX-License-Identifier: BSD-3-Clause
#include "client/uri.h"

#include <fmt/format.h>

#include <limits>
#include <optional>
#include <utility>

#include "base/parse.h"
#include "base/secret.h"
#include "proto/option_reader.h"

namespace nbdkit {
namespace {

constexpr std::uint32_t kVsockHost = 2;  // VMADDR_CID_HOST: the machine that runs this guest

Error refusal(std::string_view text, std::string_view why) {
  return Error(std::errc::invalid_argument,
               fmt::format("'{}' is no URI of NBD: {}", without_password(text), why));
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Nothing when a '%' is not followed by two digits, or says a byte that no name may have.
std::optional<std::string> percent_decoded(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (text.size() - i < 3) return std::nullopt;
      int high = hex_digit(text[i + 1]);
      int low = hex_digit(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>(high << 4 | low);
      i += 2;
    }
    if (c == '\0') return std::nullopt;
    decoded += c;
  }
  return decoded;
}

// Takes the part before `sign` off the front; all of it when there is none.
std::string_view take_until(std::string_view& text, std::string_view signs) {
  std::size_t end = std::min(text.find_first_of(signs), text.size());
  std::string_view part = text.substr(0, end);
  text.remove_prefix(end);
  return part;
}

struct Parts {
  std::string_view scheme;
  std::string_view user;
  std::string_view host;
  std::string_view port;
  std::string_view path;
  std::string_view query;
};

// The generic syntax of RFC 3986, as far as it is used.
Result<Parts> split(std::string_view text) {
  Parts parts;
  std::size_t colon = text.find("://");
  if (colon == std::string_view::npos) return refusal(text, "it does not begin with nbd://");
  parts.scheme = text.substr(0, colon);
  std::string_view rest = text.substr(colon + 3);
  std::string_view authority = take_until(rest, "/?#");
  parts.path = take_until(rest, "?#");
  if (!rest.empty() && rest.front() == '?') {
    rest.remove_prefix(1);
    parts.query = take_until(rest, "#");
  }
  if (!rest.empty()) return refusal(text, "it has a fragment (#)");
  if (std::size_t at = authority.rfind('@'); at != std::string_view::npos) {
    parts.user = authority.substr(0, at);
    authority.remove_prefix(at + 1);
  }
  if (authority.starts_with('[')) {
    std::size_t end = authority.find(']');
    if (end == std::string_view::npos) return refusal(text, "a '[' is never closed");
    parts.host = authority.substr(1, end - 1);
    authority.remove_prefix(end + 1);
    if (!authority.empty() && authority.front() != ':') {
      return refusal(text, "only a port may stand behind ']'");
    }
  } else {
    parts.host = take_until(authority, ":");
  }
  if (!authority.empty()) parts.port = authority.substr(1);
  return parts;
}

// The query's values that mean something here; others are for other clients.
Result<std::string> take_query(std::string_view text, std::string_view query, NbdUri& uri) {
  std::string socket;
  while (!query.empty()) {
    std::string_view pair = take_until(query, "&;");
    if (!query.empty()) query.remove_prefix(1);
    std::string_view value = pair;
    std::string_view key = take_until(value, "=");
    if (!value.empty()) value.remove_prefix(1);
    std::optional<std::string> decoded = percent_decoded(value);
    if (!decoded) return refusal(text, fmt::format("'{}' is not encoded as it should be", value));
    if (key == "socket") socket = std::move(*decoded);
    if (key == "tls-certificates") uri.tls_certificates = std::move(*decoded);
    if (key == "tls-psk-file") uri.tls_psk_file = std::move(*decoded);
    if (key == "tls-verify-peer") {
      Result<bool> verify = parse_bool(*decoded);
      if (!verify.ok()) return refusal(text, verify.error().message());
      uri.tls_verify_peer = verify.value();
    }
  }
  return socket;
}

Result<RemoteVsock> vsock_address(std::string_view text, const Parts& parts) {
  RemoteVsock vsock;
  vsock.cid = kVsockHost;
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint32_t>::max();
  for (auto [from, to] : {std::pair(parts.host, &vsock.cid), std::pair(parts.port, &vsock.port)}) {
    if (from.empty()) continue;
    Result<std::uint64_t> number = parse_unsigned(from, kMax);
    if (!number.ok()) return refusal(text, number.error().message());
    *to = static_cast<std::uint32_t>(number.value());
  }
  return vsock;
}

Result<RemoteAddress> address_of(std::string_view text, std::string_view transport,
                                 const Parts& parts, std::string socket) {
  if (transport == "unix") {
    if (!parts.host.empty() || !parts.port.empty()) {
      return refusal(text, "a Unix socket has no host: write nbd+unix:///EXPORT?socket=PATH");
    }
    if (socket.empty()) return refusal(text, "socket=PATH is missing");
    return RemoteAddress(RemoteUnix{std::move(socket)});
  }
  if (!socket.empty()) return refusal(text, "socket= belongs to nbd+unix://");
  if (transport == "vsock") {
    Result<RemoteVsock> vsock = vsock_address(text, parts);
    if (!vsock.ok()) return std::move(vsock).error();
    return RemoteAddress(vsock.value());
  }
  std::optional<std::string> host = percent_decoded(parts.host);
  if (!host) return refusal(text, "the host is not encoded as it should be");
  RemoteTcp tcp;
  tcp.host = host->empty() ? "localhost" : std::move(*host);
  if (!parts.port.empty()) tcp.port = parts.port;
  return RemoteAddress(std::move(tcp));
}

}  // namespace

Result<NbdUri> parse_uri(std::string_view text) {
  Result<Parts> split_text = split(text);
  if (!split_text.ok()) return std::move(split_text).error();
  const Parts& parts = split_text.value();
  std::string_view transport = parts.scheme;
  std::string_view protocol = take_until(transport, "+");
  if (!transport.empty()) transport.remove_prefix(1);
  NbdUri uri;
  uri.tls = protocol == "nbds";
  bool known = transport.empty() || transport == "unix" || transport == "vsock";
  if ((protocol != "nbd" && protocol != "nbds") || !known || parts.scheme.ends_with('+')) {
    return refusal(text, fmt::format("'{}' is not one of nbd, nbd+unix, nbd+vsock, nbds, "
                                     "nbds+unix and nbds+vsock",
                                     parts.scheme));
  }
  Result<std::string> socket = take_query(text, parts.query, uri);
  if (!socket.ok()) return std::move(socket).error();
  Result<RemoteAddress> address = address_of(text, transport, parts, std::move(socket).value());
  if (!address.ok()) return std::move(address).error();
  uri.address = std::move(address).value();
  if (Result<void> good = check_address(uri.address); !good.ok()) {
    return refusal(text, good.error().message());
  }
  std::optional<std::string> user = percent_decoded(parts.user);
  if (!user || user->starts_with('-')) return refusal(text, "no user is called like that");
  uri.user = std::move(*user);
  std::string_view path = parts.path;
  if (!path.empty()) path.remove_prefix(1);
  std::optional<std::string> name = percent_decoded(path);
  if (!name) return refusal(text, "the export's name is not encoded as it should be");
  if (name->size() > kStringMax) return refusal(text, "the export's name is too long");
  uri.export_name = std::move(*name);
  return uri;
}

}  // namespace nbdkit
