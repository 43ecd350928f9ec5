// SPDX-License-Identifier: BSD-3-Clause
// AttachmentStatus: what is known about one attached device, for --status, --list, the control
// socket and the state file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "attach/device_state.h"
#include "attach/performance.h"
#include "base/json.h"
#include "guard/guards.h"
#include "netlink/sysfs.h"

namespace nbdkit {

struct AttachmentStatus {
  NbdDevice device;
  DeviceState state = DeviceState::unmanaged;
  std::string reason;  // one sentence, when the state is not connected

  // What only a keeper knows.
  std::optional<std::int64_t> pid;  // the keeper's
  std::optional<std::int64_t> server_pid;
  std::optional<unsigned> connections;
  unsigned connections_dead = 0;
  std::string plugin;
  std::vector<std::string> filters;
  std::string export_name;
  std::string name;  // of --name
  std::string survives;
  std::string identity;
  std::uint64_t restarts = 0;        // servers that followed one that had ended by itself
  std::uint64_t upgrades = 0;        // servers that took the place of one that ran
  std::vector<std::string> refused;  // requests of which servers have died
  std::string last_error;            // why the last server ended, or could not be started
  bool detaching_lazily = false;     // it goes when nothing uses it any more
  // Only when the keeper was asked just now, and never without a server of its own.
  std::optional<Performance> performance;
  std::vector<Guard> guards;  // of the server; none: it is not guarded
  std::uint64_t request_timeout_s = 0;
  std::uint64_t dead_timeout_s = 0;

  bool managed() const { return pid.has_value(); }
};

std::string_view survives_name(Survives survives);

// Every key of nbdkit-attach(8); null where nobody knows.
Json to_json(const AttachmentStatus& status);

// What a keeper said, checked; everything of `device` is as the kernel says it now.
Result<AttachmentStatus> parse_attachment(const Json& json, NbdDevice device);

// For people: several lines, and one row of a table each.
std::string describe(const AttachmentStatus& status);
std::string describe_list(const std::vector<AttachmentStatus>& list);

}  // namespace nbdkit
