// SPDX-License-Identifier: BSD-3-Clause
// What debug messages may be about besides what the server does (nbdkit's -D nbdkit.FLAG=N).
#pragma once

#include "base/log.h"

namespace nbdkit {

struct LogTopics {
  bool control_path = true;  // what the layers are asked, but for the requests of clients
  bool data_path = true;     // the requests of clients
  bool tls_session = false;  // who is at the other end of an encrypted connection, and how
};

// One choice for the process, as -D is. Before there is any thread.
void choose_topics(const LogTopics& topics);
const LogTopics& topics();

inline bool traces_control_path(const Log& log) { return log.verbose() && topics().control_path; }
inline bool traces_data_path(const Log& log) { return log.verbose() && topics().data_path; }

}  // namespace nbdkit
