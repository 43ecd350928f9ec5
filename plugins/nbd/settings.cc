// SPDX-License-Identifier: BSD-3-Clause
#include "settings.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <climits>
#include <limits>
#include <utility>

#include "client/uri.h"

namespace nbdkit {
namespace {

constexpr std::int64_t kRetriesMax = UINT_MAX;
constexpr std::int64_t kConnectionsMax = 16;

Error refusal(std::string text) { return Error(std::errc::invalid_argument, std::move(text)); }

}  // namespace

void Settings::declare(Params& params) {
  params.add_text("uri", uri_, {.help = "URI of the export", .magic = true});
  params.add_text("hostname", hostname_, {.help = "host of the server"});
  params.add_text("port", port_, {.help = "port or service, also of vsock (default 10809)"});
  params.add_path("socket", socket_, {.help = "Unix socket of the server"});
  params.add_number("vsock", vsock_,
                    {.help = "vsock address (cid) of the server", .alias = "cid", .max = UINT_MAX});
  params.add_number("socket-fd", socket_fd_,
                    {.help = "descriptor of a socket that is connected", .min = 3, .max = INT_MAX});
  params.add_text("command", command_, {.help = "program to run as the server"});
  params.add("arg", "TEXT",
             [this](std::string_view value) -> Result<void> {
               arguments_.emplace_back(value);
               return {};
             },
             {.help = "one argument of the program; may be repeated"});
  params.add_text("export", export_, {.help = "name of the export (default \"\")"});
  params.add_bool("dynamic-export", dynamic_, {.help = "ask for the export that the client wants"});
  params.add_bool("shared", shared_, {.help = "one connection for all clients (default false)"});
  params.add_number(
      "retry", retries_,
      {.help = "how often to try again to connect at first, after 1 s each (default 0)",
       .max = kRetriesMax});
  params.add_delay("reconnect", options_.reconnect_max,
                   {.help = "how long requests wait for a lost server; 0: it stays lost "
                            "(default 60)"});
  params.add_number("connections", connections_,
                    {.help = "connections to the server for each client (default 1)",
                     .min = 1,
                     .max = kConnectionsMax});
  params.add_bool("keeps-unflushed", keeps_unflushed_,
                  {.help = "a server that dies loses nothing of what it has answered "
                           "(default false)"});
  params.add("tls", "off|on|require",
             [this](std::string_view value) -> Result<void> {
               Result<TlsMode> mode = parse_tls_mode(value);
               if (!mode.ok()) return std::move(mode).error();
               tls_ = mode.value();
               tls_given_ = true;
               return {};
             },
             {.help = "TLS with the server (default off)"});
  params.add_path("tls-certificates", tls_certificates_, {.help = "folder of X.509 certificates"});
  params.add("tls-verify", "true|false",
             [this](std::string_view value) -> Result<void> {
               Result<bool> verify = parse_bool(value);
               if (!verify.ok()) return std::move(verify).error();
               tls_verify_ = verify.value();
               tls_verify_given_ = true;
               return {};
             },
             {.help = "check the name in the server's certificate (default true)"});
  params.add_text("tls-username", tls_username_, {.help = "user's name for TLS"});
  params.add_path("tls-psk", tls_psk_, {.help = "file of pre-shared keys"});
}

Result<void> Settings::check() {
  NBDKIT_TRY(check_place());
  NBDKIT_TRY(find_address());
  NBDKIT_TRY(check_names());
  settle_tls();
  if (is_command() || socket_fd_ >= 0) shared_ = true;
  if (shared_ && dynamic_) return refusal("dynamic-export=true is not possible with shared=true");
  options_.retries = static_cast<std::uint32_t>(retries_);
  options_.connections = static_cast<std::uint32_t>(connections_);
  options_.keeps_unflushed = keeps_unflushed_;
  return {};
}

Result<void> Settings::check_place() const {
  std::vector<std::string_view> given;
  if (!uri_.empty()) given.push_back("uri=");
  if (!hostname_.empty()) given.push_back("hostname=");
  if (vsock_ >= 0) given.push_back("vsock=");
  if (!socket_.empty()) given.push_back("socket=");
  if (socket_fd_ >= 0) given.push_back("socket-fd=");
  if (is_command()) given.push_back("command=");
  if (given.empty()) {
    return refusal(
        "which server? Give one of uri=, hostname=, vsock=, socket=, socket-fd= and command=");
  }
  if (given.size() > 1) {
    return refusal(fmt::format("{} and {} exclude each other", given[0], given[1]));
  }
  if (!port_.empty() && hostname_.empty() && vsock_ < 0) {
    return refusal("port= belongs to hostname= or vsock=");
  }
  if (!arguments_.empty() && !is_command()) return refusal("arg= belongs to command=");
  return {};
}

Result<void> Settings::find_address() {
  if (!uri_.empty()) return check_uri();
  if (is_command()) {
    command_line_ = arguments_;
    command_line_.insert(command_line_.begin(), command_);
    return {};
  }
  if (!hostname_.empty()) {
    RemoteTcp tcp{hostname_};
    if (!port_.empty()) tcp.port = port_;
    options_.address = std::move(tcp);
  } else if (vsock_ >= 0) {
    RemoteVsock vsock{static_cast<std::uint32_t>(vsock_)};
    if (!port_.empty()) {
      auto port = parse_unsigned(port_, std::numeric_limits<std::uint32_t>::max());
      if (!port.ok()) return refusal(fmt::format("port={}: {}", port_, port.error().message()));
      vsock.port = static_cast<std::uint32_t>(port.value());
    }
    options_.address = vsock;
  } else if (!socket_.empty()) {
    options_.address = RemoteUnix{socket_};
  } else {
    int type = 0;
    socklen_t length = sizeof type;
    int fd = static_cast<int>(socket_fd_);
    if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 || type != SOCK_STREAM) {
      return refusal(fmt::format("socket-fd={}: is no open stream socket", fd));
    }
    options_.address = RemoteSocket{fd};
  }
  return check_address(options_.address);
}

Result<void> Settings::check_uri() {
  Result<NbdUri> uri = parse_uri(uri_);
  if (!uri.ok()) return std::move(uri).error();
  NbdUri& parsed = uri.value();
  if (!parsed.export_name.empty() && !dynamic_) {
    if (!export_.empty() && export_ != parsed.export_name) ignored_export_ = std::move(export_);
    export_ = std::move(parsed.export_name);
  }
  options_.address = std::move(parsed.address);
  if (parsed.tls) {
    tls_ = TlsMode::require;
    tls_given_ = true;
  }
  if (tls_username_.empty()) tls_username_ = std::move(parsed.user);
  if (tls_certificates_.empty()) tls_certificates_ = std::move(parsed.tls_certificates);
  if (tls_psk_.empty()) tls_psk_ = std::move(parsed.tls_psk_file);
  if (!tls_verify_given_) tls_verify_ = parsed.tls_verify_peer;
  return {};
}

Result<void> Settings::check_names() {
  if (dynamic_ && !export_.empty()) {
    return refusal("export= and dynamic-export=true exclude each other");
  }
  if (export_.size() > kStringMax) return refusal("export=: the name is too long");
  options_.wishes.export_name = export_;
  return {};
}

void Settings::settle_tls() {
  const bool anything = !tls_certificates_.empty() || !tls_psk_.empty() || !tls_username_.empty() ||
                        tls_verify_given_;
  const TlsMode unless_told = anything ? TlsMode::on : TlsMode::off;
  options_.wishes.tls = tls_given_ ? tls_ : unless_told;
  if (const auto* tcp = std::get_if<RemoteTcp>(&options_.address)) {
    options_.wishes.tls_host = tcp->host;
  }
  if (std::holds_alternative<RemoteSocket>(options_.address)) {
    options_.wishes.tls_kernel = TlsStream::Kernel::never;
  }
}

Result<void> Settings::load() {
  if (options_.wishes.tls == TlsMode::off) return {};
  ClientTls tls;
  tls.certificates = tls_certificates_;
  tls.psk_file = tls_psk_;
  tls.username = tls_username_;
  tls.verify_peer = tls_verify_;
  Result<TlsCredentials::Shared> credentials = TlsCredentials::for_client(tls);
  if (!credentials.ok()) return std::move(credentials).error();
  options_.wishes.credentials = std::move(credentials).value();
  return {};
}

std::string Settings::identity(std::string_view export_name) const {
  std::string place =
      is_command() ? fmt::format("{}", fmt::join(command_line_, " ")) : to_string(options_.address);
  return fmt::format("{} '{}'", place, export_name);
}

}  // namespace nbdkit
