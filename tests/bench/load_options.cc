// SPDX-License-Identifier: BSD-3-Clause
#include "bench/load_options.h"

#include "bench/load_connection.h"

namespace nbdkit::bench {

void declare(CLI::App& app, LoadOptions& options) {
  auto* where = app.add_option_group("where", "where the server is");
  where->add_option("--unix", options.unix_path, "path of its socket");
  where->add_option("--tcp", options.tcp_port, "port on 127.0.0.1");
  where->add_option("--fd", options.fds, "inherited sockets that need no handshake")
      ->delimiter(',');
  where->require_option(1);
  app.add_option("--tls", options.tls_certificates, "use TLS, with the ca-cert.pem of this folder");
  app.add_option("--export", options.export_name, "its name in the handshake");
  app.add_option("--size", options.size, "bytes to spread over (default: the export)");
  app.add_option("--block", options.block_size, "bytes of each request")
      ->check(CLI::Range(1u, 64u << 20));
  app.add_option("--depth", options.depth, "in flight on each connection")
      ->check(CLI::Range(1u, 4096u));
  app.add_option("--connections", options.connections)->check(CLI::Range(1u, 4096u));
  app.add_option("--writes", options.writes_percent, "percent of the requests")
      ->check(CLI::Range(0u, 100u));
  app.add_option("--seconds", options.seconds)->check(CLI::Range(0.1, 3600.0));
  app.add_option("--pid", options.server_pid, "the server, for its CPU time and memory");
  app.add_flag("--sequential", options.sequential);
  app.add_flag("--idle", options.idle, "only hold the connections, after 20 reads each");
  app.callback([&options] {
    if (options.fds.empty()) return;
    options.connections = static_cast<unsigned>(options.fds.size());
    if (options.size == 0) give_up("--fd needs --size: no handshake tells it");
  });
}

}  // namespace nbdkit::bench
