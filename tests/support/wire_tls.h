// SPDX-License-Identifier: BSD-3-Clause
// WireTls: the TLS of a WireClient: GnuTLS on a blocking socket, and nothing of src/tls/.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace nbdkit {

class WireTls {
 public:
  // A folder with ca-cert.pem and, if the client is to show one, client-cert.pem and its key; or
  // else a file of keys and the name of one.
  struct Identity {
    std::string certificates = {};
    std::string psk_file = {};
    std::string username = {};
    std::string priority = "NORMAL";
    bool shows_certificate = true;
  };

  WireTls(int socket, const Identity& identity);
  ~WireTls();

  // "", or why it has failed.
  std::string handshake();
  // What GnuTLS returns: the number of bytes, 0 at the end, or a negative error.
  long send(std::string_view bytes);
  long receive(char* into, std::size_t length);
  // Takes other keys from here on, and asks the server for the same if `both`.
  int change_keys(bool both);
  void say_goodbye();
  // Decrypted and not yet received.
  bool holds_more() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace nbdkit
