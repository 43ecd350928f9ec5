// SPDX-License-Identifier: BSD-3-Clause
// TlsUpgrade: what STARTTLS makes of a connection's stream.
#pragma once

#include <memory>
#include <string_view>

#include "async/channel.h"
#include "block/context.h"
#include "tls/stream.h"

namespace nbdkit {

// On its connection's loop. What is passed outlives it.
class TlsUpgrade {
 public:
  TlsUpgrade(Context& context, ByteStream& plain, TlsStream::Kernel kernel)
      : context_(context), plain_(plain), kernel_(kernel) {}

  // From here on `channel` is encrypted, and the context says so.
  Task<void> start(Channel& channel, TlsCredentials::Shared credentials, std::string_view who);

  // What the connection is to be served on.
  ByteStream& stream() const { return tls_ ? *tls_ : plain_; }
  // Null without TLS.
  TlsStream* tls() const { return tls_.get(); }

 private:
  Context& context_;
  ByteStream& plain_;
  const TlsStream::Kernel kernel_;
  std::unique_ptr<TlsStream> tls_;
};

}  // namespace nbdkit
