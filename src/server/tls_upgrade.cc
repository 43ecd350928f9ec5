// SPDX-License-Identifier: BSD-3-Clause
#include "server/tls_upgrade.h"

#include <utility>

namespace nbdkit {

// `who` is the connection's own name.
Task<void> TlsUpgrade::start(Channel& channel, TlsCredentials::Shared credentials,
                             std::string_view who) {
  Result<std::unique_ptr<TlsStream>> made = TlsStream::server(plain_, std::move(credentials));
  if (!made.ok()) co_await fail(std::move(made).error());
  tls_ = std::move(made).value();
  co_await tls_->handshake(context_.loop(), context_.gate(), kernel_);
  channel.use(*tls_);
  context_.tls = true;
  context_.peer.tls_name = tls_->peer().name;
  context_.peer.tls_issuer = tls_->peer().issuer;
  context_.log().debug(who, "TLS: {}", tls_->description());
}

}  // namespace nbdkit
