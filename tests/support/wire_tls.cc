// SPDX-License-Identifier: BSD-3-Clause
#include "support/wire_tls.h"

#include <gnutls/gnutls.h>
#include <gtest/gtest.h>

#include <fstream>

namespace nbdkit {

struct WireTls::Parts {
  ~Parts() {
    if (session != nullptr) ::gnutls_deinit(session);
    if (certificates != nullptr) ::gnutls_certificate_free_credentials(certificates);
    if (keys != nullptr) ::gnutls_psk_free_client_credentials(keys);
  }

  gnutls_session_t session = nullptr;
  gnutls_certificate_credentials_t certificates = nullptr;
  gnutls_psk_client_credentials_t keys = nullptr;
};

namespace {

constexpr int kEmptyRecordsMax = 4;

std::string key_of(const std::string& file, const std::string& name) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name + ":")) return line.substr(name.size() + 1);
  }
  return "00112233445566778899aabbccddeeff";  // Of somebody whom the server does not know.
}

}  // namespace

WireTls::WireTls(int socket, const Identity& identity) : parts_(std::make_unique<Parts>()) {
  gnutls_session_t& session = parts_->session;
  EXPECT_EQ(::gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL), 0);
  std::string priority = identity.priority;
  if (!identity.psk_file.empty()) {
    priority += ":+ECDHE-PSK:+DHE-PSK:+PSK";
    const std::string key = key_of(identity.psk_file, identity.username);
    std::string digits(key);
    gnutls_datum_t datum{reinterpret_cast<unsigned char*>(digits.data()),
                         static_cast<unsigned>(digits.size())};
    EXPECT_EQ(::gnutls_psk_allocate_client_credentials(&parts_->keys), 0);
    EXPECT_EQ(::gnutls_psk_set_client_credentials(parts_->keys, identity.username.c_str(), &datum,
                                                  GNUTLS_PSK_KEY_HEX),
              0);
    ::gnutls_credentials_set(session, GNUTLS_CRD_PSK, parts_->keys);
  } else {
    EXPECT_EQ(::gnutls_certificate_allocate_credentials(&parts_->certificates), 0);
    const std::string& folder = identity.certificates;
    EXPECT_GT(::gnutls_certificate_set_x509_trust_file(
                  parts_->certificates, (folder + "/ca-cert.pem").c_str(), GNUTLS_X509_FMT_PEM),
              0);
    if (identity.shows_certificate) {
      EXPECT_EQ(::gnutls_certificate_set_x509_key_file(
                    parts_->certificates, (folder + "/client-cert.pem").c_str(),
                    (folder + "/client-key.pem").c_str(), GNUTLS_X509_FMT_PEM),
                0);
    }
    ::gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, parts_->certificates);
    ::gnutls_session_set_verify_cert(session, "localhost", 0);
  }
  EXPECT_EQ(::gnutls_priority_set_direct(session, priority.c_str(), nullptr), 0);
  ::gnutls_transport_set_int(session, socket);
}

WireTls::~WireTls() = default;

std::string WireTls::handshake() {
  int code;
  do {
    code = ::gnutls_handshake(parts_->session);
  } while (code < 0 && ::gnutls_error_is_fatal(code) == 0);
  return code < 0 ? ::gnutls_strerror(code) : "";
}

long WireTls::send(std::string_view bytes) {
  return ::gnutls_record_send(parts_->session, bytes.data(), bytes.size());
}

long WireTls::receive(char* into, std::size_t length) {
  long n = 0;
  for (int i = 0; i < kEmptyRecordsMax; ++i) {
    n = ::gnutls_record_recv(parts_->session, into, length);
    if (n != GNUTLS_E_AGAIN) break;  // Also said of a record that only changes keys.
  }
  return n;
}

int WireTls::change_keys(bool both) {
  return ::gnutls_session_key_update(parts_->session, both ? GNUTLS_KU_PEER : 0);
}

void WireTls::say_goodbye() { ::gnutls_bye(parts_->session, GNUTLS_SHUT_WR); }

bool WireTls::holds_more() const { return ::gnutls_record_check_pending(parts_->session) > 0; }

}  // namespace nbdkit
