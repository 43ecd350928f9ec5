// SPDX-License-Identifier: BSD-3-Clause
// What a session needs of its credentials. Private to this room.
#pragma once

#include <gnutls/gnutls.h>

#include "tls/credentials.h"

namespace nbdkit {

// Of the kinds of keys one is set, the others are null.
struct TlsCredentials::Parts {
  Parts() = default;
  Parts(const Parts&) = delete;
  Parts& operator=(const Parts&) = delete;
  ~Parts() {
    if (certificates != nullptr) ::gnutls_certificate_free_credentials(certificates);
    if (server_keys != nullptr) ::gnutls_psk_free_server_credentials(server_keys);
    if (client_keys != nullptr) ::gnutls_psk_free_client_credentials(client_keys);
    if (priority != nullptr) ::gnutls_priority_deinit(priority);
  }

  gnutls_certificate_credentials_t certificates = nullptr;
  gnutls_psk_server_credentials_t server_keys = nullptr;
  gnutls_psk_client_credentials_t client_keys = nullptr;
  gnutls_priority_t priority = nullptr;
  bool verify_peer = false;
};

}  // namespace nbdkit
