// SPDX-License-Identifier: BSD-3-Clause
// The kernel's TLS (Linux's "tls" upper layer protocol): encrypts what is written to a TCP socket.
// Private to this room.
//
// Only for sending. Clients of GnuTLS change their key after 2^24 records, which a busy one has
// sent after minutes, and before Linux 6.14 the kernel cannot go on receiving then. For the same
// reason the key for sending stays what it is, also for a client that asks for another one.
#pragma once

#include <gnutls/gnutls.h>

#include "base/result.h"

namespace nbdkit {

// After the handshake, when everything that it had to send has been sent. On success the session
// must not send anything any more. Errors: the kernel, the socket or the cipher does not have it;
// the socket is as it was.
Result<void> let_kernel_send(int socket, gnutls_session_t session);

// In the session's place.
void send_close_notify_by_kernel(int socket);

}  // namespace nbdkit
