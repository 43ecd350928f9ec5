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

// sun_path with the terminating zero.
constexpr std::size_t kUnixPathMax = sizeof(sockaddr_un::sun_path) - 1;

Error bad(std::string text) { return Error(std::errc::invalid_argument, std::move(text)); }

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
  if (text == "-") {
    options.private_unix = true;
    return {};
  }
  Result<std::string> path = absolute_path(text);
  if (!path.ok()) return bad(fmt::format("-U: {}", path.error().message()));
  if (path.value().size() > kUnixPathMax) {
    return bad(fmt::format("-U: path too long: length {} > max {} bytes", path.value().size(),
                           kUnixPathMax));
  }
  options.unix_paths.push_back(std::move(path).value());
  return {};
}

// getaddrinfo() would take a number modulo 65536.
bool port_too_large(std::string_view text) {
  if (text.find_first_not_of("0123456789") != std::string_view::npos) return false;
  text.remove_prefix(std::min(text.find_first_not_of('0'), text.size()));
  return !text.empty() && !parse_unsigned(text, UINT16_MAX).ok();
}

Result<void> check_port(const Options& options) {
  if (!options.port) return {};
  if (options.vsock) {
    Result<std::uint64_t> port = parse_unsigned(*options.port, UINT32_MAX);
    if (port.ok()) return {};
    return bad(fmt::format("-p: with --vsock: {}", port.error().message()));
  }
  if (!options.port->empty() && !port_too_large(*options.port)) return {};
  return bad(
      fmt::format("-p: '{}' is not a port (0 to 65535, or the name of a service)", *options.port));
}

Result<void> parse_mask(std::string_view text, Options& options) {
  Result<std::uint64_t> mask = parse_unsigned(text, UINT32_MAX);
  if (!mask.ok()) return bad(fmt::format("--mask-handshake: {}", mask.error().message()));
  options.handshake.flags &= static_cast<std::uint16_t>(mask.value());
  return {};
}

Result<void> parse_timeout(std::string_view text, Options& options) {
  Result<Nanoseconds> limit = parse_delay(text);
  if (!limit.ok()) return bad(fmt::format("--timeout: {}", limit.error().message()));
  options.handshake.limit = limit.value();
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

Result<void> parse_swap(std::string_view text, Options& options) {
  if (!text.empty() && text != "force") {
    return bad(fmt::format("--swap={}: must be --swap or --swap=force", text));
  }
  options.swap = text.empty() ? SwapMode::on : SwapMode::force;
  return {};
}

Result<void> parse_survives(std::string_view text, Options& options) {
  if (text == "nothing") {
    options.survives = Survives::nothing;
  } else if (text == "flushed") {
    options.survives = Survives::flushed;
  } else if (text == "durable") {
    options.survives = Survives::durable;
  } else {
    return bad(fmt::format("--survives: '{}' is none of nothing, flushed and durable", text));
  }
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
      options.handshake.oldstyle = false;
      return true;
    case 'o':
      options.handshake.oldstyle = true;
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
    case kKeepalive:
      options.keepalive = true;
      return true;
    case kNoMetaContexts:
      options.handshake.meta_contexts = false;
      return true;
    case kNoStructuredReplies:
      options.handshake.chunks = false;
      return true;
    case kPrintUri:
      options.print_uri = true;
      return true;
    case kTlsVerifyPeer:
      options.tls.verify_peer = true;
      return true;
    case kVsock:
      options.vsock = true;
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
    case 'D':
      return store(parse_debug_flag(text), options.debug_flags.emplace_back());
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
      return parse_name("-i", "address", text, options.ip_addresses.emplace_back());
    case 'p':
      options.port = std::string(text);
      return {};
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
      return store(parse_fd(row.spelling(), text), options.handoff.fds.emplace_back());
    case kHandoffMode:
      return options.handoff.set_mode(text);
    case kHandoffUser:
      return options.handoff.add_user(text);
    case kKeptMemoryFd:
      return store(parse_fd(row.spelling(), text), options.kept_memory_fd);
    case kRequestLedgerFd:
      return store(parse_fd(row.spelling(), text), options.request_ledger_fd);
    case kSwap:
      return parse_swap(text, options);
    case kSurvives:
      return parse_survives(text, options);
    case kLog:
      return store(LogTarget::parse(text), options.log);
    case kMaskHandshake:
      return parse_mask(text, options);
    case kName:
      return parse_name("--name", "name", text, options.name);
    case kTimeout:
      return parse_timeout(text, options);
    case kTls:
      return options.tls.set_mode(text);
    case kTlsCertificates:
      return parse_name("--tls-certificates", "folder", text, options.tls.certificates);
    case kTlsPriority:
      return parse_name("--tls-priority", "text", text, options.tls.priority);
    case kTlsPsk:
      return parse_name("--tls-psk", "file", text, options.tls.psk_file);
    case kRun:
      options.run = std::string(text);
      return {};
    case kSelinuxLabel:
      return parse_name("--selinux-label", "label", text, options.selinux_label);
  }
  return bad(fmt::format("--{}: takes no argument", row.first_name()));
}

// These ask for a report and need nothing that comes behind them.
bool ends_parsing(Options::Action action) {
  return action == Options::Action::dump_config || action == Options::Action::long_options ||
         action == Options::Action::short_options;
}

Result<void> check_conflicts(const Options& options) {
  const bool unix_socket = options.listens_on_unix();
  const bool dump = options.action == Options::Action::dump_plugin;
  struct Pair {
    bool both;
    std::string_view one, other;
  };
  const std::array<Pair, 11> pairs{{
      {options.port && unix_socket, "-p", "-U"},
      {options.port && options.single, "-p", "-s"},
      {unix_socket && options.single, "-U", "-s"},
      {options.single && options.run, "-s", "--run"},
      {options.vsock && unix_socket, "--vsock", "-U"},
      {options.vsock && options.single, "--vsock", "-s"},
      {options.print_uri && options.single, "--print-uri", "-s"},
      {options.single && dump, "-s", "--dump-plugin"},
      {options.handshake.oldstyle && options.tls.required(), "-o", "--tls=require"},
      {options.handoff.any() && options.single, "-s", "--fd or --handoff"},
      {options.handoff.any() && options.run, "--run", "--fd or --handoff"},
  }};
  for (const Pair& pair : pairs) {
    if (pair.both) return bad(fmt::format("{} cannot be used with {}", pair.one, pair.other));
  }
  NBDKIT_TRY(check_port(options));
  return options.handoff.check({options.kept_memory_fd, options.request_ledger_fd});
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
    const OptionRow* row = find_option_row(id);
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
  // getopt moves pointers, and not what they point to.
  if (optind < argc) {
    options.plugin_place = static_cast<std::size_t>(
        std::find(argv + 1, argv + argc, arguments[static_cast<std::size_t>(optind)]) - argv);
  }
  return options;
}

}  // namespace nbdkit
