// SPDX-License-Identifier: BSD-3-Clause
#include "attach/remote_source.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/parse.h"
#include "client/client_session.h"
#include "client/uri.h"

namespace nbdkit {
namespace {

// A peer that is asked every few seconds and does not answer three times is gone.
constexpr int kProbeAfterS = 15;
constexpr int kProbeEveryS = 5;
constexpr int kProbes = 3;

bool begins_with_any(std::string_view text, std::initializer_list<std::string_view> schemes) {
  return std::any_of(schemes.begin(), schemes.end(),
                     [text](std::string_view scheme) { return text.starts_with(scheme); });
}

// A peer whose machine is gone says nothing; without this the driver would wait for it for ever.
Result<void> watch_peer(int socket) {
  int domain = 0;
  socklen_t length = sizeof(domain);
  if (::getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0) return os_error("socket");
  if (domain != AF_INET && domain != AF_INET6) return {};
  struct Option {
    int level;
    int name;
    int value;
  };
  const int silence_ms = static_cast<int>(Milliseconds(RemoteSource::kSilenceMax).count());
  const std::array<Option, 6> options{{{SOL_SOCKET, SO_KEEPALIVE, 1},
                                       {IPPROTO_TCP, TCP_KEEPIDLE, kProbeAfterS},
                                       {IPPROTO_TCP, TCP_KEEPINTVL, kProbeEveryS},
                                       {IPPROTO_TCP, TCP_KEEPCNT, kProbes},
                                       {IPPROTO_TCP, TCP_USER_TIMEOUT, silence_ms},
                                       {IPPROTO_TCP, TCP_NODELAY, 1}}};
  for (const Option& option : options) {
    const void* value = &option.value;
    if (::setsockopt(socket, option.level, option.name, value, sizeof(option.value)) < 0) {
      return os_error("setsockopt");
    }
  }
  return {};
}

Result<bool> parse_parameter(const std::string& argument) {
  std::string_view text = argument;
  std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || text.substr(0, equals) != RemoteSource::kKeepsUnflushed) {
    return Error(std::errc::invalid_argument,
                 fmt::format("'{}': only {}= may follow an address whose sockets are the kernel's; "
                             "for others attach the plugin: nbd uri=...",
                             argument, RemoteSource::kKeepsUnflushed));
  }
  return parse_bool(text.substr(equals + 1));
}

}  // namespace

bool is_kernel_uri(std::string_view text) {
  return begins_with_any(text, {"nbd://", "nbd+unix://"});
}

bool is_remote_uri(std::string_view text) {
  return is_kernel_uri(text) ||
         begins_with_any(text, {"nbds://", "nbds+unix://", "nbd+vsock://", "nbds+vsock://"});
}

bool RemoteSource::is_meant(const AttachOptions& options) {
  return !options.plugin.empty() && is_kernel_uri(options.plugin.front()) &&
         options.filters.empty();
}

Result<RemoteOptions> RemoteSource::parse(const AttachOptions& options) {
  Result<NbdUri> uri = parse_uri(options.plugin.front());
  if (!uri.ok()) return std::move(uri).error();
  NBDKIT_TRY(check_address(uri.value().address));
  RemoteOptions remote;
  remote.address = std::move(uri.value().address);
  remote.wishes.export_name = std::move(uri.value().export_name);
  auto* local = std::get_if<RemoteUnix>(&remote.address);
  if (local != nullptr && !local->path.starts_with('/')) {
    local->path = fmt::format("{}/{}", options.folder, local->path);
  }
  for (std::size_t i = 1; i < options.plugin.size(); ++i) {
    Result<bool> keeps = parse_parameter(options.plugin[i]);
    if (!keeps.ok()) return std::move(keeps).error();
    remote.keeps_unflushed = keeps.value();
  }
  return remote;
}

Result<std::unique_ptr<RemoteSource>> RemoteSource::create(Loop& loop,
                                                           const AttachOptions& options) {
  Result<RemoteOptions> parsed = parse(options);
  if (!parsed.ok()) return std::move(parsed).error();
  std::unique_ptr<RemoteSource> source(new RemoteSource(loop));
  source->options_ = std::move(parsed).value();
  source->read_only_ = options.read_only;
  return source;
}

HandoffExport RemoteSource::describe(const ClientAgreement& agreement) const {
  HandoffExport info;
  info.size = agreement.size;
  info.transmission_flags = agreement.flags;
  if (read_only_) info.transmission_flags |= transmission_flag::kReadOnly;
  if (agreement.block_sizes) {
    info.block_size = {agreement.block_sizes->minimum, agreement.block_sizes->preferred,
                       agreement.block_sizes->maximum};
  }
  info.multi_conn = agreement.has(transmission_flag::kMultiConn);
  info.description = agreement.description;
  info.identity =
      fmt::format("nbd {} {}", to_string(options_.address), options_.wishes.export_name);
  // Who has nothing to flush has nothing that is only in memory.
  bool keeps = options_.keeps_unflushed || !agreement.has(transmission_flag::kFlush);
  info.survives = keeps || info.read_only() ? Survives::durable : Survives::flushed;
  return info;
}

Task<RemoteSource::Connection> RemoteSource::connect() {
  NegotiatedSocket negotiated = co_await negotiate_socket(loop_, gate_, options_);
  Result<void> watched = watch_peer(negotiated.socket.get());
  if (!watched.ok()) co_await fail(std::move(watched).error());
  Connection connection;
  connection.info = describe(negotiated.agreement);
  connection.socket = std::move(negotiated.socket);
  co_return std::move(connection);
}

}  // namespace nbdkit
