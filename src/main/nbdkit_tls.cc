// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_tls.h"

#include <fmt/format.h>

#include <array>
#include <climits>
#include <cstdlib>
#include <utility>
#include <vector>

#include "tls/folders.h"

namespace nbdkit {
namespace {

constexpr std::string_view kMissing =
    "could not load TLS certificates (try --tls-certificates=DIR, or read nbdkit-tls(1))";

bool is_missing(const Error& error) {
  return error.code == std::errc::no_such_file_or_directory ||
         error.code == std::errc::not_a_directory || error.code == std::errc::permission_denied;
}

// The server may go to another folder before it looks a client's key up.
Result<std::string> real_path(const std::string& path) {
  std::array<char, PATH_MAX> resolved;
  if (::realpath(path.c_str(), resolved.data()) == nullptr) return os_error(path);
  return std::string(resolved.data());
}

Result<TlsCredentials::Shared> load_from(ServerTls server, const std::string& folder) {
  server.certificates = folder;
  return TlsCredentials::for_server(server);
}

}  // namespace

Result<void> TlsOptions::set_mode(std::string_view text) {
  Result<TlsMode> parsed = parse_tls_mode(text);
  if (!parsed.ok()) {
    return Error(parsed.error().code, fmt::format("--tls: {}", parsed.error().detail()));
  }
  mode = parsed.value();
  return {};
}

Result<TlsCredentials::Shared> load_credentials(const TlsOptions& options, Log& log) {
  if (options.mode == TlsMode::off) return TlsCredentials::Shared();
  ServerTls server;
  server.priority = options.priority;
  server.verify_peer = options.verify_peer;
  if (!options.psk_file.empty()) {
    Result<std::string> path = real_path(options.psk_file);
    if (!path.ok())
      return Error(path.error().code, fmt::format("--tls-psk: {}", path.error().message()));
    server.psk_file = std::move(path).value();
    return TlsCredentials::for_server(server);
  }
  std::vector<std::string> folders{options.certificates};
  if (options.certificates.empty()) folders = certificate_folders("nbdkit");
  for (const std::string& folder : folders) {
    Result<TlsCredentials::Shared> loaded = load_from(server, folder);
    if (loaded.ok()) log.debug("", "TLS: certificates of {}", folder);
    if (loaded.ok() || !is_missing(loaded.error())) return loaded;
    log.debug("", "TLS: {}", loaded.error().message());
  }
  if (options.required()) {
    return Error(std::errc::no_such_file_or_directory,
                 fmt::format("--tls=require but {}", kMissing));
  }
  if (options.mode == TlsMode::on) {
    log.warning("", "--tls=on but {}: clients that want TLS are refused", kMissing);
  }
  return TlsCredentials::Shared();
}

}  // namespace nbdkit
