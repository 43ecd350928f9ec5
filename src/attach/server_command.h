// SPDX-License-Identifier: BSD-3-Clause
// The server's command line, and what of it may be shown.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "attach/options.h"

namespace nbdkit {

// Descriptor numbers in the server.
struct ServerDescriptors {
  int handoff = -1;      // control socket
  int door = -1;         // where another keeper gets one
  int kept_memory = -1;  // memory that outlives the server
  int ledger = -1;       // block/request_ledger.h
  // The server knows nothing of these. It holds them, and so do the programs that it starts.
  int lock = -1;      // server_lock.h
  int options = -1;   // saved_options.h
  int memory = -1;    // kept_memory, whatever becomes of that
  int program = -1;   // the server's
  int requests = -1;  // ledger, whatever becomes of that
};

// With argv[0].
std::vector<std::string> server_arguments(const AttachOptions& options,
                                          const ServerDescriptors& descriptors);

// Descriptors of ours that the plugin's parameters name (fd=N, dirfd=N): it must have them under
// the same number. Ascending, each once, none below 3.
std::vector<int> named_descriptors(const AttachOptions& options);

// For status: what stands after /dev/nbdN without folders and affixes of the file's name.
std::string plugin_name(const AttachOptions& options);
// Outermost first, wherever on the command line they stand.
std::vector<std::string> filter_names(const AttachOptions& options);

}  // namespace nbdkit
