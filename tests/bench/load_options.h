// SPDX-License-Identifier: BSD-3-Clause
// What the load generator is asked to do.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

namespace nbdkit::bench {

struct LoadOptions {
  // Where the server is: exactly one of these.
  std::string unix_path;
  std::uint16_t tcp_port = 0;  // on 127.0.0.1
  std::vector<int> fds;        // inherited sockets in the transmission phase, one a connection

  std::string tls_certificates;  // folder; empty: without TLS

  std::string export_name;  // at most 4096 bytes
  std::uint64_t size = 0;   // bytes to spread over; 0: the export's, which the handshake tells
  std::uint32_t block_size = 4096;
  unsigned depth = 16;  // requests in flight on each connection
  unsigned connections = 1;
  unsigned writes_percent = 0;
  double seconds = 4;
  int server_pid = 0;  // whose CPU time and memory are measured; 0: nobody's
  bool sequential = false;
  bool idle = false;  // connect and do nothing but a few reads: for the memory of connections
};

void declare(CLI::App& app, LoadOptions& options);

}  // namespace nbdkit::bench
