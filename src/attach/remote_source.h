// SPDX-License-Identifier: BSD-3-Clause
// RemoteSource: an export of another NBD server, whose sockets are given to the kernel as they are.
#pragma once

#include <memory>
#include <string_view>

#include "async/gate.h"
#include "async/loop.h"
#include "attach/options.h"
#include "base/unique_fd.h"
#include "client/remote_options.h"
#include "handoff/verbs.h"

namespace nbdkit {

// Whether the kernel can be given the connection that the URI names: one without TLS, over TCP or a
// Unix socket. Others need a server between them, which has the plugin nbd.
bool is_remote_uri(std::string_view text);
bool is_kernel_uri(std::string_view text);

class RemoteSource {
 public:
  // The one parameter that may follow the URI; the rest of the plugin's is for requests that it
  // sends itself.
  static constexpr std::string_view kKeepsUnflushed = "keeps-unflushed";

  // How long a peer may be silent that owes something, before its connection is given up.
  static constexpr Seconds kSilenceMax{30};

  // Whether `options` are about one: a URI in the place of the plugin, and no filter.
  static bool is_meant(const AttachOptions& options);
  // The address and how it is used. invalid_argument with a sentence that quotes what is wrong.
  static Result<RemoteOptions> parse(const AttachOptions& options);
  // The loop outlives it.
  static Result<std::unique_ptr<RemoteSource>> create(Loop& loop, const AttachOptions& options);

  struct Connection {
    UniqueFd socket;  // blocking, behind the handshake
    HandoffExport info;
  };
  // One that is made now. Errors name the address; operation_canceled after hang_up().
  Task<Connection> connect();
  // Whoever waits for a connection does so no longer, and nobody gets another.
  void hang_up() { gate_.close(); }

 private:
  explicit RemoteSource(Loop& loop) : loop_(loop), gate_(loop) {}

  HandoffExport describe(const ClientAgreement& agreement) const;

  Loop& loop_;
  Gate gate_;
  RemoteOptions options_;
  bool read_only_ = false;
};

}  // namespace nbdkit
