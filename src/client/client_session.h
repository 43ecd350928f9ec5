// SPDX-License-Identifier: BSD-3-Clause
// From an address to a connection that is negotiated.
#pragma once

#include <memory>
#include <vector>

#include "async/gate.h"
#include "async/loop.h"
#include "async/stream.h"
#include "base/unique_fd.h"
#include "client/agreement.h"
#include "client/remote_options.h"
#include "tls/stream.h"

namespace nbdkit {

struct ClientSession {
  std::unique_ptr<SocketStream> socket;
  std::unique_ptr<TlsStream> tls;  // above the socket, if there is one
  ClientAgreement agreement;
};

// Errors name the address. timed_out after options.handshake_max; operation_canceled when the gate
// closes. All that is given outlives the Task.
Task<ClientSession> connect_session(Loop& loop, Gate& gate, const RemoteOptions& options);

Task<std::vector<ListAnswer>> list_remote_exports(Loop& loop, Gate& gate,
                                                  const RemoteOptions& options);

// A socket that is ready for somebody else to send requests on, with simple replies: the kernel.
struct NegotiatedSocket {
  UniqueFd socket;  // blocking; nothing was read beyond the handshake
  ClientAgreement agreement;
};
Task<NegotiatedSocket> negotiate_socket(Loop& loop, Gate& gate, const RemoteOptions& options);

}  // namespace nbdkit
