// SPDX-License-Identifier: BSD-3-Clause
// Options: the command line of nbdkit, as values. One table drives parsing, --help and the lists of
// options that completion reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "main/nbdkit_handoff_options.h"

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
  std::vector<std::string> parameters;  // what follows the plugin
  std::vector<std::string> filters;     // the outermost first

  std::string unix_path;  // absolute; empty without -U PATH
  bool private_unix = false;
  Family family = Family::any;
  std::string ip_address;           // empty: every address
  std::optional<std::string> port;  // number or service
  bool single = false;
  HandoffOptions handoff;
  bool activated = false;  // the service manager has opened the sockets
  std::optional<int> kept_memory_fd;

  bool foreground = false;
  bool exit_with_parent = false;
  std::string pid_file;  // absolute
  std::optional<std::string> run;
  std::string user;
  std::string group;

  bool read_only = false;
  bool verbose = false;
  std::string export_name;
  std::size_t threads = kThreadsDefault;
  std::vector<DebugFlag> debug_flags;

  static constexpr std::size_t kThreadsDefault = 16;

  // Whether the program stays with its caller instead of going to the background.
  bool stays() const {
    return foreground || single || activated || run.has_value() || handoff.inherits();
  }
};

// One row for each option that getopt has to know.
struct OptionRow {
  int id;                     // the letter, or a number above kLongOnly for options without one
  std::string_view names;     // long names with a blank between; the first one is documented
  std::string_view argument;  // what the usage calls it; empty: takes none
  std::string_view help;      // empty: known by name only, and refused

  static constexpr int kLongOnly = 256;

  bool available() const { return !help.empty(); }
};

std::span<const OptionRow> option_rows();

// The arguments stay as they are. An Error is the one line for the user.
Result<Options> parse_options(int argc, char* const* argv);

// What --help prints first, and what a wrong option gets.
std::string usage();
// One a line, as --long-options and --short-options print them.
std::string long_option_list();
std::string short_option_list();

}  // namespace nbdkit
