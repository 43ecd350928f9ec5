// SPDX-License-Identifier: BSD-3-Clause
// TlsFiles: certificates and keys for one test (make-certificates says which), gone with it.
#pragma once

#include <string>

#include "tls/credentials.h"

namespace nbdkit {

class TlsFiles {
 public:
  TlsFiles();
  TlsFiles(const TlsFiles&) = delete;
  TlsFiles& operator=(const TlsFiles&) = delete;
  ~TlsFiles();

  // "pki", "keys.psk"
  std::string path(std::string_view name) const;

  ServerTls server(std::string_view folder = "pki") const;
  ServerTls server_with_keys() const;
  ClientTls client(std::string_view folder = "pki") const;
  ClientTls client_with_key(std::string_view username) const;

 private:
  std::string folder_;
};

// Loads; a failure is the test's.
TlsCredentials::Shared load(const ServerTls& server);
TlsCredentials::Shared load(const ClientTls& client);

}  // namespace nbdkit
