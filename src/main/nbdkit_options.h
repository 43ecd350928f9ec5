// SPDX-License-Identifier: BSD-3-Clause
// Options: the command line of nbdkit, as values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "block/properties.h"
#include "guard/guards.h"
#include "main/nbdkit_handoff_options.h"
#include "main/nbdkit_log.h"
#include "main/nbdkit_option_table.h"
#include "main/nbdkit_tls.h"
#include "server/handshake_rules.h"

namespace nbdkit {

// -D NAME.FLAG=N: the int NAME_debug_FLAG of the plugin or filter NAME becomes N.
struct DebugFlag {
  std::string name;
  std::string flag;  // As given: dots in it stand for '_'.
  int value = 0;

  std::string symbol() const;
};

struct Options {
  enum class Action {
    serve,
    bad_usage,  // getopt has said why on stderr; the usage is to follow
    help,
    version,
    dump_plugin,
    dump_config,
    long_options,
    short_options,
  };
  enum class Family { any, ipv4, ipv6 };

  Action action = Action::serve;

  std::string plugin;                   // name or path; empty when none was given
  std::size_t plugin_place = 0;         // which argument it was
  std::vector<std::string> parameters;  // what follows the plugin
  std::vector<std::string> filters;     // the outermost first

  std::vector<std::string> unix_paths;  // absolute
  bool private_unix = false;
  Family family = Family::any;
  std::vector<std::string> ip_addresses;  // none: every address
  bool vsock = false;
  std::string selinux_label;  // of the sockets that it opens; empty: as the policy says
  bool keepalive = false;
  std::optional<std::string> port;  // number or service
  bool single = false;
  HandoffOptions handoff;
  bool activated = false;  // the service manager has opened the sockets
  std::optional<int> kept_memory_fd;
  std::optional<Survives> survives;  // of a plugin in C
  std::optional<int> request_ledger_fd;
  SwapMode swap = SwapMode::off;

  bool foreground = false;
  bool exit_with_parent = false;
  std::string pid_file;  // absolute
  std::optional<std::string> run;
  std::string user;
  std::string group;

  bool read_only = false;
  bool verbose = false;
  LogTarget log;
  std::string name = "nbdkit";  // of this server, for messages
  bool print_uri = false;
  HandshakeRules handshake;
  TlsOptions tls;
  std::string export_name;
  std::size_t threads = kThreadsDefault;
  std::vector<DebugFlag> debug_flags;

  static constexpr std::size_t kThreadsDefault = 16;

  bool listens_on_unix() const { return !unix_paths.empty() || private_unix; }
  // Whether the program stays with its caller instead of going to the background.
  bool stays() const {
    return foreground || single || activated || run.has_value() || handoff.inherits();
  }
};

// The arguments stay as they are. An Error is the one line for the user.
Result<Options> parse_options(int argc, char* const* argv);

}  // namespace nbdkit
