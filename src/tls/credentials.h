// SPDX-License-Identifier: BSD-3-Clause
// TlsCredentials: the certificates or keys of one side, loaded once, for any number of sessions.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"

namespace nbdkit {

// Folders hold files with the names that the nbdkit family has agreed on: ca-cert.pem,
// server-cert.pem and server-key.pem, or client-cert.pem and client-key.pem, and ca-crl.pem.
struct ServerTls {
  std::string certificates;  // folder
  std::string psk_file;      // of psktool; takes the place of certificates
  std::string priority;      // of GnuTLS; empty: NORMAL
  bool verify_peer = false;  // clients must show a certificate of our authority
};

struct ClientTls {
  // Empty: where clients of the family look (certificate_folders("libnbd")), or else what the
  // system trusts.
  std::string certificates;
  std::string psk_file;
  std::string username;  // in psk_file; empty: the user's own
  std::string priority;
  bool verify_peer = true;
};

// Never changes: any thread may use it. Its key of a PSK file is looked up in every handshake.
class TlsCredentials {
 public:
  using Shared = std::shared_ptr<const TlsCredentials>;

  // no_such_file_or_directory when there are no certificates at all; any other Error is one line
  // about what is wrong with them.
  static Result<Shared> for_server(const ServerTls& options);
  static Result<Shared> for_client(const ClientTls& options);

  struct Parts;
  explicit TlsCredentials(std::unique_ptr<Parts> parts);
  TlsCredentials(const TlsCredentials&) = delete;
  TlsCredentials& operator=(const TlsCredentials&) = delete;
  ~TlsCredentials();

 private:
  friend class TlsStream;

  std::unique_ptr<Parts> parts_;
};

}  // namespace nbdkit
