// SPDX-License-Identifier: BSD-3-Clause
// AttachOptions: what the user asked for, as nbdkit-attach(8) describes it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "attach/surroundings.h"
#include "base/parse.h"
#include "guard/guards.h"

namespace nbdkit {

struct AttachOptions {
  // Sockets beyond the number of CPUs add nothing.
  static constexpr unsigned kConnectionsMax = 16;

  std::optional<std::uint32_t> index;  // of /dev/nbdN; absent: the kernel picks a free one
  bool read_only = false;
  bool verbose = false;
  bool foreground = false;
  bool scope = false;  // keeper and server leave the cgroup that they are started in
  unsigned connections = 1;
  std::string export_name;
  std::string name;     // the user's for the attachment; empty: none
  std::string metrics;  // where the keeper answers for them (metrics_server.h); empty: nowhere
  Seconds request_timeout{0};  // after which a socket is killed; 0: never
  // How often the driver looks whether the socket of a waiting request was replaced.
  std::optional<Milliseconds> recheck;
  // Of the device's queue in the kernel: KEY and VALUE (queue_settings.h).
  std::vector<std::pair<std::string, std::string>> queue;
  bool scan = true;               // the kernel looks for partitions, udev for file systems
  SwapMode swap = SwapMode::off;  // keeper and server are guarded against a lack of memory
  Seconds dead_timeout{60};       // how long requests wait when no server is there

  std::string server;                       // the server's program, a path
  std::string user;                         // the server runs as; empty: as it is started
  std::string group;                        // the same
  std::vector<std::string> filters;         // outermost first
  std::vector<std::string> server_options;  // verbatim
  std::vector<std::string> plugin;          // PLUGIN and all that follows, verbatim; not empty

  // What every server finds when it starts: as the command that has attached the device found it.
  std::string folder;                    // empty: the keeper's
  std::vector<std::string> environment;  // NAME=value
  std::optional<unsigned> file_mask;     // umask
  Surroundings surroundings;

  // Adopt the device if it is attached already. `plugin` may be empty then, and the rest counts
  // only for a device that is not.
  bool reattach = false;
  // Also one whose requests have failed meanwhile, so that its user has seen errors.
  bool force = false;
};

// What a successor is started from: the rest of AttachOptions is the device's, and stays.
struct UpgradeOptions {
  // Empty: the path that the device was attached with, where there may be another program now.
  std::string server;
  // Its user, group, filters, server_options, plugin and surroundings; none: as they are.
  std::optional<AttachOptions> start;
  // Other data, or the same in other places, is meant to be there.
  bool changes_data = false;
};

struct DetachOptions {
  bool force = false;  // also when the device is in use or its data cannot be flushed
  bool lazy = false;   // when it is in use: as soon as it is not
};

}  // namespace nbdkit
