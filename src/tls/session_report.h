// SPDX-License-Identifier: BSD-3-Clause
// What has been agreed on with the other end of an encrypted connection, for who has to find out
// why it is not what it should be.
#pragma once

#include <gnutls/gnutls.h>

#include <string>

namespace nbdkit {

// After the handshake of a server: "; authentication: certificate; ...", to be put behind what the
// log says of the session anyway.
std::string session_report(gnutls_session_t session);

}  // namespace nbdkit
