// SPDX-License-Identifier: BSD-3-Clause
#include "tls/session_report.h"

#include <fmt/format.h>
#include <gnutls/x509.h>

namespace nbdkit {
namespace {

std::string describe(const gnutls_datum_t& certificate) {
  gnutls_x509_crt_t parsed;
  if (::gnutls_x509_crt_init(&parsed) < 0) return "unknown";
  std::string text = "unknown";
  gnutls_datum_t line{};
  if (::gnutls_x509_crt_import(parsed, &certificate, GNUTLS_X509_FMT_DER) >= 0 &&
      ::gnutls_x509_crt_print(parsed, GNUTLS_CRT_PRINT_ONELINE, &line) >= 0) {
    text.assign(reinterpret_cast<const char*>(line.data), line.size);
    ::gnutls_free(line.data);
  }
  ::gnutls_x509_crt_deinit(parsed);
  return text;
}

std::string certificates_report(gnutls_session_t session) {
  unsigned count = 0;
  const gnutls_datum_t* chain = ::gnutls_certificate_get_peers(session, &count);
  if (chain == nullptr) count = 0;
  std::string text = fmt::format("; authentication: certificate; {} shown by the client", count);
  for (unsigned i = 0; i < count; ++i) text += "; " + describe(chain[i]);
  return text;
}

std::string key_report(gnutls_session_t session) {
  const char* name = ::gnutls_psk_server_get_username(session);
  return fmt::format("; authentication: PSK (pre-shared key); username: {}",
                     name != nullptr ? name : "");
}

}  // namespace

std::string session_report(gnutls_session_t session) {
  std::string text;
  const gnutls_credentials_type_t kind = ::gnutls_auth_get_type(session);
  if (kind == GNUTLS_CRD_CERTIFICATE) text += certificates_report(session);
  if (kind == GNUTLS_CRD_PSK) text += key_report(session);
  const char* group = ::gnutls_group_get_name(::gnutls_group_get(session));
  if (group != nullptr) text += fmt::format("; negotiated group: {}", group);
  return text;
}

}  // namespace nbdkit
