// SPDX-License-Identifier: BSD-3-Clause
// --run: the command that the server lives for, and how it is told where the server is.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/log.h"
#include "main/nbdkit_process.h"

namespace nbdkit {

// Where clients find the server.
struct Address {
  std::string unix_path;   // empty: TCP or vsock
  std::uint32_t port = 0;  // 0: Unix
  std::string export_name;
  std::string host = "localhost";  // TCP: as a URI has it
  bool vsock = false;
  bool tls = false;           // clients may use it
  bool tls_required = false;  // and must
  // As the operator named them.
  std::string tls_certificates = {};
  std::string tls_psk_file = {};
};

// As the NBD project's document on URIs writes them. Export names and paths are percent-encoded.
std::string nbd_uri(const Address& address);

// `text` as one word of the shell.
std::string shell_quote(std::string_view text);

// --print-uri: the URI, as a word of the shell, and what a user may do with it.
Result<void> print_uri(const Address& address, const StandardStreams& streams);

// The shell's variables uri, nbd, exportname, port and unixsocket, with TLS also tls,
// tls_certificates and tls_psk, and then the command.
std::string captive_script(const Address& address, std::string_view command);

// In the parent of a server that is ready: runs the command with the caller's stdin and stdout,
// then ends the server. The exit status is the command's, or the server's when only that failed.
int run_captive(const Address& address, std::string_view command, StandardStreams streams,
                const Child& server, Log& log);

}  // namespace nbdkit
