// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_options.h"

#include <fmt/format.h>
#include <getopt.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <climits>

#include "block/params.h"

namespace nbdkit {
namespace {

enum LongOnly : int {
  kDumpConfig = OptionRow::kLongOnly,
  kDumpPlugin,
  kExitWithParent,
  kFd,
  kFilter,
  kHandoff,
  kHandoffFd,
  kHandoffMode,
  kHandoffUser,
  kHelp,
  kKeepalive,
  kKeptMemoryFd,
  kLog,
  kLongOptions,
  kMaskHandshake,
  kName,
  kNoMetaContexts,
  kNoStructuredReplies,
  kPrintUri,
  kRun,
  kSelinuxLabel,
  kShortOptions,
  kSwap,
  kTimeout,
  kTls,
  kTlsCertificates,
  kTlsPriority,
  kTlsPsk,
  kTlsVerifyPeer,
  kVsock,
};

constexpr OptionRow kRows[] = {
    {'4', "ipv4-only", "", "listen on IPv4 addresses only"},
    {'6', "ipv6-only", "", "listen on IPv6 addresses only"},
    {'D', "debug", "NAME.FLAG=N", "set a debug flag of a plugin or filter"},
    {kDumpConfig, "dump-config", "", "print how the program was built, and exit"},
    {kDumpPlugin, "dump-plugin", "", "print what the plugin is and can do, and exit"},
    {kExitWithParent, "exit-with-parent", "", "stop when the process that started it ends"},
    {'e', "exportname export-name export", "NAME", "the export that $uri of --run names"},
    {kFd, "fd", "FD[,mode=MODE][,export=NAME]", "serve the client of this socket (repeatable)"},
    {kFilter, "filter", "FILTER", "put a filter above the plugin (repeatable, outermost first)"},
    {'f', "foreground no-fork", "", "do not go to the background"},
    {'g', "group", "GROUP", "change to this group once the sockets are open"},
    {kHandoff, "handoff", "PATH", "listen here for control sockets that give sockets to serve"},
    {kHandoffFd, "handoff-fd", "FD", "the same on this socket, or from this control socket"},
    {kHandoffMode, "handoff-mode", "MODE", "of the node of --handoff, in octal (default 0600)"},
    {kHandoffUser, "handoff-user", "USER", "may give sockets, besides root (repeatable)"},
    {kHelp, "help", "", "print this, and the parameters of PLUGIN and FILTERs if given"},
    {'i', "ipaddr ip-addr", "ADDRESS", "listen on this address (default: every address)"},
    {kKeepalive, "keepalive keep-alive", "", ""},
    {kKeptMemoryFd, "kept-memory-fd", "FD", "memory for a plugin whose data must outlive it"},
    {kLog, "log", "MODE", ""},
    {kLongOptions, "long-options", "", "list the long options, and exit"},
    {kMaskHandshake, "mask-handshake", "MASK", ""},
    {kName, "name", "NAME", ""},
    {'n', "newstyle new-style", "", "speak the newstyle protocol (which it always does)"},
    {kNoMetaContexts, "no-meta-contexts no-mc", "", ""},
    {kNoStructuredReplies, "no-sr no-structured-replies", "", ""},
    {'o', "oldstyle old-style", "", ""},
    {'P', "pidfile pid-file", "FILE", "write the process id here when ready"},
    {'p', "port", "PORT", "listen on this TCP port (default 10809)"},
    {kPrintUri, "print-uri print-url show-uri show-url", "", ""},
    {'r', "readonly read-only", "", "no client may write"},
    {kRun, "run", "COMMAND", "run a command with the server, stop when it ends"},
    {kSelinuxLabel, "selinux-label", "LABEL", ""},
    {kShortOptions, "short-options", "", "list the short options, and exit"},
    {'s', "single stdin", "", "serve one connection on stdin and stdout, then exit"},
    {kSwap, "swap", "", ""},
    {'t', "threads", "N", "blocking calls at the same time for one connection (default 16)"},
    {kTimeout, "timeout time-out", "DELAY", ""},
    {kTls, "tls", "off|on|require", ""},
    {kTlsCertificates, "tls-certificates", "DIR", ""},
    {kTlsPriority, "tls-priority", "TEXT", ""},
    {kTlsPsk, "tls-psk", "FILE", ""},
    {kTlsVerifyPeer, "tls-verify-peer", "", ""},
    {'U', "unix", "PATH|-", "listen on this Unix socket; -: on a private one"},
    {'u', "user", "USER", "change to this user once the sockets are open"},
    {'V', "version", "", "print the version, also of PLUGIN and FILTERs if given, and exit"},
    {'v', "verbose", "", "print debug messages"},
    {kVsock, "vsock", "", ""},
};

// A ':' in front would make getopt silent; its messages are what users of nbdkit know.
constexpr const char* kShortOptionString = "46D:e:fg:i:nop:P:rst:u:U:vV";

constexpr int kHelpColumn = 32;

// sun_path with the terminating zero.
constexpr std::size_t kUnixPathMax = sizeof(sockaddr_un::sun_path) - 1;

Error bad(std::string text) { return Error(std::errc::invalid_argument, std::move(text)); }

std::vector<std::string> split_names(std::string_view names) {
  std::vector<std::string> list;
  while (!names.empty()) {
    std::size_t end = std::min(names.find(' '), names.size());
    list.emplace_back(names.substr(0, end));
    names.remove_prefix(std::min(end + 1, names.size()));
  }
  return list;
}

std::string first_name(const OptionRow& row) { return split_names(row.names).front(); }

// "-U" for options with a letter, else "--run": how messages call it.
std::string spelling(const OptionRow& row) {
  if (row.id < OptionRow::kLongOnly) return fmt::format("-{}", static_cast<char>(row.id));
  return "--" + first_name(row);
}

const OptionRow* find_row(int id) {
  auto row =
      std::find_if(std::begin(kRows), std::end(kRows), [id](auto& one) { return one.id == id; });
  return row == std::end(kRows) ? nullptr : row;
}

// getopt's table, and the names that it points to.
class GetoptTable {
 public:
  GetoptTable() {
    for (const OptionRow& row : kRows) {
      for (std::string& name : split_names(row.names)) {
        names_.push_back(std::move(name));
        rows_.push_back(&row);
      }
    }
    for (std::size_t i = 0; i < names_.size(); ++i) {
      int argument = rows_[i]->argument.empty() ? no_argument : required_argument;
      options_.push_back({names_[i].c_str(), argument, nullptr, rows_[i]->id});
    }
    options_.push_back({nullptr, 0, nullptr, 0});
  }
  const option* options() const { return options_.data(); }

 private:
  std::vector<std::string> names_;
  std::vector<const OptionRow*> rows_;
  std::vector<option> options_;
};

Result<DebugFlag> parse_debug_flag(std::string_view text) {
  std::size_t dot = text.find('.');
  std::size_t equals = text.find('=');
  if (dot == 0 || equals == std::string_view::npos || dot == std::string_view::npos ||
      equals <= dot + 1) {
    return bad(fmt::format("-D: '{}' does not have the form NAME.FLAG=N", text));
  }
  Result<std::int64_t> value = parse_signed(text.substr(equals + 1), INT_MIN, INT_MAX);
  if (!value.ok()) return bad(fmt::format("-D {}: {}", text, value.error().message()));
  DebugFlag flag;
  flag.name = text.substr(0, dot);
  flag.flag = text.substr(dot + 1, equals - dot - 1);
  flag.value = static_cast<int>(value.value());
  return flag;
}

Result<void> parse_unix(std::string_view text, Options& options) {
  options.private_unix = text == "-";
  options.unix_path.clear();
  if (options.private_unix) return {};
  Result<std::string> path = absolute_path(text);
  if (!path.ok()) return bad(fmt::format("-U: {}", path.error().message()));
  if (path.value().size() > kUnixPathMax) {
    return bad(fmt::format("-U: path too long: length {} > max {} bytes", path.value().size(),
                           kUnixPathMax));
  }
  options.unix_path = std::move(path).value();
  return {};
}

// getaddrinfo() would take a number modulo 65536.
bool port_too_large(std::string_view text) {
  if (text.find_first_not_of("0123456789") != std::string_view::npos) return false;
  text.remove_prefix(std::min(text.find_first_not_of('0'), text.size()));
  return !text.empty() && !parse_unsigned(text, UINT16_MAX).ok();
}

Result<void> parse_port(std::string_view text, Options& options) {
  if (text.empty() || port_too_large(text)) {
    return bad(fmt::format("-p: '{}' is not a port (0 to 65535, or the name of a service)", text));
  }
  options.port = std::string(text);
  return {};
}

Result<void> parse_threads(std::string_view text, Options& options) {
  Result<std::uint64_t> threads = parse_unsigned(text, UINT32_MAX);
  if (!threads.ok()) return bad(fmt::format("-t: {}", threads.error().message()));
  options.threads = threads.value() == 0 ? Options::kThreadsDefault : threads.value();
  return {};
}

Result<void> parse_pid_file(std::string_view text, Options& options) {
  Result<std::string> path = absolute_path(text);
  if (!path.ok()) return bad(fmt::format("-P: {}", path.error().message()));
  options.pid_file = std::move(path).value();
  return {};
}

// An empty variable of a script must not mean "stay root", or "listen everywhere".
Result<void> parse_name(std::string_view option, std::string_view what, std::string_view text,
                        std::string& target) {
  if (text.empty()) return bad(fmt::format("{}: the {} is empty", option, what));
  target = text;
  return {};
}

template <typename T, typename Target>
Result<void> store(Result<T> parsed, Target& target) {
  if (!parsed.ok()) return std::move(parsed).error();
  target = std::move(parsed).value();
  return {};
}

// Options without an argument that only set something.
bool take_switch(int id, Options& options) {
  switch (id) {
    case '4':
      options.family = Options::Family::ipv4;
      return true;
    case '6':
      options.family = Options::Family::ipv6;
      return true;
    case 'f':
      options.foreground = true;
      return true;
    case 'n':
      return true;
    case 'r':
      options.read_only = true;
      return true;
    case 's':
      options.single = true;
      return true;
    case 'v':
      options.verbose = true;
      return true;
    case kExitWithParent:
      options.exit_with_parent = options.foreground = true;
      return true;
    default:
      return false;
  }
}

bool take_action(int id, Options& options) {
  switch (id) {
    case 'V':
      options.action = Options::Action::version;
      return true;
    case kHelp:
      options.action = Options::Action::help;
      return true;
    case kDumpPlugin:
      options.action = Options::Action::dump_plugin;
      return true;
    case kDumpConfig:
      options.action = Options::Action::dump_config;
      return true;
    case kLongOptions:
      options.action = Options::Action::long_options;
      return true;
    case kShortOptions:
      options.action = Options::Action::short_options;
      return true;
    default:
      return false;
  }
}

Result<void> take_argument(const OptionRow& row, std::string_view text, Options& options) {
  switch (row.id) {
    case 'D': {
      Result<DebugFlag> flag = parse_debug_flag(text);
      if (!flag.ok()) return std::move(flag).error();
      options.debug_flags.push_back(std::move(flag).value());
      return {};
    }
    case 'P':
      return parse_pid_file(text, options);
    case 'U':
      return parse_unix(text, options);
    case 'e':
      options.export_name = text;
      return {};
    case 'g':
      return parse_name("-g", "group", text, options.group);
    case 'i':
      return parse_name("-i", "address", text, options.ip_address);
    case 'p':
      return parse_port(text, options);
    case 't':
      return parse_threads(text, options);
    case 'u':
      return parse_name("-u", "user", text, options.user);
    case kFilter:
      options.filters.emplace_back(text);
      return {};
    case kFd:
      return options.handoff.add_given(text);
    case kHandoff:
      return options.handoff.set_path(text);
    case kHandoffFd:
      return store(parse_fd(spelling(row), text), options.handoff.fd);
    case kHandoffMode:
      return options.handoff.set_mode(text);
    case kHandoffUser:
      return options.handoff.add_user(text);
    case kKeptMemoryFd:
      return store(parse_fd(spelling(row), text), options.kept_memory_fd);
    case kRun:
      options.run = std::string(text);
      return {};
    default:
      return bad(
          fmt::format("{} (--{}): not available in this version", spelling(row), first_name(row)));
  }
}

// These ask for a report and need nothing that comes behind them.
bool ends_parsing(Options::Action action) {
  return action == Options::Action::dump_config || action == Options::Action::long_options ||
         action == Options::Action::short_options;
}

Result<void> check_conflicts(const Options& options) {
  const bool unix_socket = !options.unix_path.empty() || options.private_unix;
  const bool dump = options.action == Options::Action::dump_plugin;
  struct Pair {
    bool both;
    std::string_view one, other;
  };
  const std::array<Pair, 7> pairs{{
      {options.port && unix_socket, "-p", "-U"},
      {options.port && options.single, "-p", "-s"},
      {unix_socket && options.single, "-U", "-s"},
      {options.single && options.run, "-s", "--run"},
      {options.single && dump, "-s", "--dump-plugin"},
      {options.handoff.any() && options.single, "-s", "--fd or --handoff"},
      {options.handoff.any() && options.run, "--run", "--fd or --handoff"},
  }};
  for (const Pair& pair : pairs) {
    if (pair.both) return bad(fmt::format("{} cannot be used with {}", pair.one, pair.other));
  }
  return options.handoff.check(options.kept_memory_fd);
}

Result<void> take_plugin(int count, char* const* rest, Options& options) {
  using Action = Options::Action;
  if (count > 0) {
    options.plugin = rest[0];
    options.parameters.assign(rest + 1, rest + count);
    if (options.plugin.empty()) return bad("the name of the plugin is empty");
    return {};
  }
  if (options.action == Action::help || options.action == Action::version) return {};
  if (options.action == Action::dump_plugin) {
    return bad("--dump-plugin: name a plugin (for the server itself there is --dump-config)");
  }
  return bad("no plugin given on the command line (see nbdkit --help)");
}

}  // namespace

std::string DebugFlag::symbol() const {
  std::string text = fmt::format("{}_debug_{}", name, flag);
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '.' || c == '-'; }, '_');
  return text;
}

std::span<const OptionRow> option_rows() { return kRows; }

Result<Options> parse_options(int argc, char* const* argv) {
  GetoptTable table;
  // getopt reorders the arguments and names the program as the first one does.
  std::vector<char*> arguments(argv, argv + argc);
  std::string_view program = arguments.empty() ? "nbdkit" : arguments[0];
  std::string name(program.substr(program.rfind('/') + 1));
  if (!arguments.empty()) arguments[0] = name.data();
  arguments.push_back(nullptr);

  Options options;
  optind = 0;  // Starts anew, with everything that it remembers.
  for (;;) {
    int id = ::getopt_long(argc, arguments.data(), kShortOptionString, table.options(), nullptr);
    if (id == -1) break;
    const OptionRow* row = find_row(id);
    if (row == nullptr) {
      options.action = Options::Action::bad_usage;
      return options;
    }
    if (take_switch(id, options)) continue;
    if (take_action(id, options)) {
      if (ends_parsing(options.action)) return options;
      continue;
    }
    NBDKIT_TRY(take_argument(*row, optarg == nullptr ? "" : optarg, options));
  }
  NBDKIT_TRY(check_conflicts(options));
  NBDKIT_TRY(take_plugin(argc - optind, arguments.data() + optind, options));
  return options;
}

std::string usage() {
  std::string text =
      "Usage: nbdkit [OPTION...] PLUGIN [[KEY=]VALUE [KEY=VALUE [...]]]\n"
      "Serves what a plugin provides as a network block device (NBD).\n\n";
  for (const OptionRow& row : kRows) {
    if (!row.available()) continue;
    std::string left = row.id < OptionRow::kLongOnly
                           ? fmt::format("  -{}, ", static_cast<char>(row.id))
                           : std::string("      ");
    std::string_view comma;
    for (const std::string& name : split_names(row.names)) {
      left += fmt::format("{}--{}", std::exchange(comma, ", "), name);
    }
    if (!row.argument.empty()) left += fmt::format(" {}", row.argument);
    if (left.size() > kHelpColumn - 2) left += fmt::format("\n{:{}}", "", kHelpColumn);
    text += fmt::format("{:<{}}{}\n", left, kHelpColumn, row.help);
  }
  text += "\nThe parameters of a plugin: nbdkit --help PLUGIN. More: man nbdkit.\n";
  return text;
}

std::string long_option_list() {
  std::string text;
  for (const OptionRow& row : kRows) {
    if (!row.available()) continue;
    for (const std::string& name : split_names(row.names)) text += fmt::format("--{}\n", name);
  }
  return text;
}

std::string short_option_list() {
  std::string text;
  for (const OptionRow& row : kRows) {
    if (row.available() && row.id < OptionRow::kLongOnly) {
      text += fmt::format("-{}\n", static_cast<char>(row.id));
    }
  }
  return text;
}

}  // namespace nbdkit
