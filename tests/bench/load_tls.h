// SPDX-License-Identifier: BSD-3-Clause
// LoadTls: STARTTLS and what follows, on a blocking socket of the load generator.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "async/stream.h"
#include "support/real_loop.h"
#include "tls/stream.h"

namespace nbdkit::bench {

// What fails ends the program.
class LoadTls {
 public:
  // `certificates` has the authority of the server, which is called localhost.
  LoadTls(int socket, const std::string& certificates);

  // As recv() and send() with these flags, but without errors other than EAGAIN.
  ssize_t receive(std::span<std::byte> into, int flags);
  ssize_t send(std::span<const std::byte> from, int flags);
  // Received already, so that poll() does not know of it.
  bool holds_more() const { return tls_->holds_more(); }

 private:
  void wait(short events);

  SocketStream socket_;
  RealLoop loop_;
  Gate gate_{loop_};
  std::unique_ptr<TlsStream> tls_;
};

}  // namespace nbdkit::bench
