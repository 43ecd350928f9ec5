// SPDX-License-Identifier: BSD-3-Clause
#include "tls/credentials.h"

#include <pwd.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <utility>

#include "tls/credentials_parts.h"
#include "tls/folders.h"
#include "tls/gnutls_error.h"

namespace nbdkit {
namespace {

using Parts = TlsCredentials::Parts;

constexpr int kExtraCertificatesMax = 16;  // server-cert-0.pem ... server-cert-15.pem

bool readable(const std::string& path) { return ::access(path.c_str(), R_OK) == 0; }

Result<void> set_priority(Parts& parts, std::string text, bool psk) {
  if (text.empty()) text = "NORMAL";
  // GnuTLS offers no keys of this kind unless it is told to.
  if (psk) text += ":+ECDHE-PSK:+DHE-PSK:+PSK";
  const char* wrong = nullptr;
  int code = ::gnutls_priority_init(&parts.priority, text.c_str(), &wrong);
  if (code == 0) return {};
  parts.priority = nullptr;
  if (code != GNUTLS_E_INVALID_REQUEST || wrong == nullptr) {
    return gnutls_error("TLS priorities", code);
  }
  return Error(std::errc::invalid_argument,
               fmt::format("TLS priorities '{}': wrong from '{}' on", text, wrong));
}

Result<void> load_pair(Parts& parts, const std::string& certificate, const std::string& key) {
  int code = ::gnutls_certificate_set_x509_key_file(parts.certificates, certificate.c_str(),
                                                    key.c_str(), GNUTLS_X509_FMT_PEM);
  if (code >= 0) return {};
  return gnutls_error(
      fmt::format("GnuTLS error: loading certificate and key ({}, {})", certificate, key), code);
}

// `code` otherwise is how many there were.
Error nothing_loaded(const std::string& path, int code) {
  return gnutls_error(fmt::format("GnuTLS error: loading {}", path),
                      code == 0 ? GNUTLS_E_NO_CERTIFICATE_FOUND : code);
}

Result<void> load_trust(Parts& parts, const std::string& folder) {
  const std::string authority = folder + "/ca-cert.pem";
  int code = ::gnutls_certificate_set_x509_trust_file(parts.certificates, authority.c_str(),
                                                      GNUTLS_X509_FMT_PEM);
  if (code <= 0) return nothing_loaded(authority, code);
  const std::string revoked = folder + "/ca-crl.pem";
  if (!readable(revoked)) return {};
  code = ::gnutls_certificate_set_x509_crl_file(parts.certificates, revoked.c_str(),
                                                GNUTLS_X509_FMT_PEM);
  if (code <= 0) return nothing_loaded(revoked, code);
  return {};
}

Result<void> allocate_certificates(Parts& parts) {
  int code = ::gnutls_certificate_allocate_credentials(&parts.certificates);
  if (code < 0) return gnutls_error("GnuTLS error", code);
  return {};
}

Result<void> load_server_certificates(Parts& parts, const std::string& folder) {
  const std::string certificate = folder + "/server-cert.pem";
  const std::string key = folder + "/server-key.pem";
  for (const std::string& path : {folder + "/ca-cert.pem", certificate, key}) {
    if (!readable(path)) return os_error(path);
  }
  NBDKIT_TRY(allocate_certificates(parts));
  NBDKIT_TRY(load_trust(parts, folder));
  NBDKIT_TRY(load_pair(parts, certificate, key));
  for (int i = 0; i < kExtraCertificatesMax; ++i) {
    const std::string more = fmt::format("{}/server-cert-{}.pem", folder, i);
    const std::string its_key = fmt::format("{}/server-key-{}.pem", folder, i);
    if (readable(more) && readable(its_key)) NBDKIT_TRY(load_pair(parts, more, its_key));
  }
  ::gnutls_certificate_set_known_dh_params(parts.certificates, GNUTLS_SEC_PARAM_MEDIUM);
  return {};
}

Result<void> load_server_keys(Parts& parts, const std::string& file) {
  if (!readable(file)) return os_error(file);
  int code = ::gnutls_psk_allocate_server_credentials(&parts.server_keys);
  if (code >= 0) {
    code = ::gnutls_psk_set_server_credentials_file(parts.server_keys, file.c_str());
  }
  if (code < 0) return gnutls_error(fmt::format("GnuTLS error: loading {}", file), code);
  ::gnutls_psk_set_server_known_dh_params(parts.server_keys, GNUTLS_SEC_PARAM_MEDIUM);
  return {};
}

Result<void> load_client_certificates(Parts& parts, std::string folder) {
  NBDKIT_TRY(allocate_certificates(parts));
  if (folder.empty()) {
    for (const std::string& one : certificate_folders("libnbd")) {
      if (folder.empty() && readable(one + "/ca-cert.pem")) folder = one;
    }
  }
  if (folder.empty()) {
    int code = ::gnutls_certificate_set_x509_system_trust(parts.certificates);
    if (code < 0) return gnutls_error("GnuTLS error: the system's authorities", code);
    return {};
  }
  const std::string authority = folder + "/ca-cert.pem";
  if (!readable(authority)) return os_error(authority);
  NBDKIT_TRY(load_trust(parts, folder));
  const std::string certificate = folder + "/client-cert.pem";
  const std::string key = folder + "/client-key.pem";
  // Only some servers want to see one.
  if (!readable(certificate) && !readable(key)) return {};
  return load_pair(parts, certificate, key);
}

std::string own_name() {
  const passwd* entry = ::getpwuid(::geteuid());
  return entry != nullptr ? entry->pw_name : "";
}

// In lines NAME:KEY, the key in hexadecimal digits.
Result<std::string> find_key(const std::string& file, const std::string& name) {
  std::ifstream lines(file);
  if (!lines) return os_error(file);
  std::string line;
  while (std::getline(lines, line)) {
    if (line.starts_with(name + ":")) return line.substr(name.size() + 1);
  }
  return Error(std::errc::invalid_argument, fmt::format("{}: has no key of '{}'", file, name));
}

Result<void> load_client_keys(Parts& parts, const ClientTls& options) {
  const std::string name = options.username.empty() ? own_name() : options.username;
  Result<std::string> key = find_key(options.psk_file, name);
  if (!key.ok()) return std::move(key).error();
  int code = ::gnutls_psk_allocate_client_credentials(&parts.client_keys);
  if (code >= 0) {
    std::string& text = key.value();
    const gnutls_datum_t digits{reinterpret_cast<unsigned char*>(text.data()),
                                static_cast<unsigned>(text.size())};
    code = ::gnutls_psk_set_client_credentials(parts.client_keys, name.c_str(), &digits,
                                               GNUTLS_PSK_KEY_HEX);
  }
  if (code >= 0) return {};
  return gnutls_error(fmt::format("GnuTLS error: {}: the key of '{}'", options.psk_file, name),
                      code);
}

}  // namespace

TlsCredentials::TlsCredentials(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

TlsCredentials::~TlsCredentials() = default;

Result<TlsCredentials::Shared> TlsCredentials::for_server(const ServerTls& options) {
  const bool psk = !options.psk_file.empty();
  auto parts = std::make_unique<Parts>();
  parts->verify_peer = options.verify_peer && !psk;
  NBDKIT_TRY(set_priority(*parts, options.priority, psk));
  if (psk) {
    NBDKIT_TRY(load_server_keys(*parts, options.psk_file));
  } else {
    NBDKIT_TRY(load_server_certificates(*parts, options.certificates));
  }
  return Shared(std::make_shared<const TlsCredentials>(std::move(parts)));
}

Result<TlsCredentials::Shared> TlsCredentials::for_client(const ClientTls& options) {
  const bool psk = !options.psk_file.empty();
  auto parts = std::make_unique<Parts>();
  parts->verify_peer = options.verify_peer && !psk;
  NBDKIT_TRY(set_priority(*parts, options.priority, psk));
  if (psk) {
    NBDKIT_TRY(load_client_keys(*parts, options));
  } else {
    NBDKIT_TRY(load_client_certificates(*parts, options.certificates));
  }
  return Shared(std::make_shared<const TlsCredentials>(std::move(parts)));
}

}  // namespace nbdkit
