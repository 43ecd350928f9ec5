// SPDX-License-Identifier: BSD-3-Clause
#include "main/attach_options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <filesystem>
#include <limits>
#include <string_view>

#include "attach/metrics_server.h"
#include "attach/queue_settings.h"
#include "attach/remote_source.h"
#include "base/parse.h"
#include "main/attach_nbdtab.h"
#include "netlink/exit_code.h"
#include "netlink/sysfs.h"

namespace nbdkit {
namespace {

constexpr auto kDescription =
    "Makes any nbdkit plugin a block device of this machine.\n\n"
    "  nbdkit-attach /dev/nbdN|- [options] PLUGIN [key=value...]\n"
    "  nbdkit-attach /dev/nbdN|- [options] nbd://HOST/EXPORT\n"
    "  nbdkit-attach /dev/nbdN [options]        (from /etc/nbdtab)\n"
    "  nbdkit-attach --reattach [--force] /dev/nbdN [[options] PLUGIN [key=value...]]\n"
    "  nbdkit-attach --upgrade /dev/nbdN [[options] PLUGIN [key=value...]]\n"
    "  nbdkit-attach --resize [--force] /dev/nbdN\n"
    "  nbdkit-attach --detach [--force|--lazy] /dev/nbdN\n"
    "  nbdkit-attach --status [--json] /dev/nbdN\n"
    "  nbdkit-attach --list [--json]\n"
    "  nbdkit-attach --watch [--interval=DELAY] [/dev/nbdN]\n"
    "  nbdkit-attach --diagnose /dev/nbdN [FILE]\n"
    "  nbdkit-attach --swap=check [--json]\n\n"
    "PLUGIN and all that follows are the server's, as in nbdkit(1). - picks a free device, whose\n"
    "name is printed.";

// As the user wrote it, before anything is understood.
struct RawOptions {
  bool reattach = false;
  bool detach = false;
  bool upgrade = false;
  bool resize = false;
  bool changes_data = false;
  std::string of_the_device;  // an option that is given and counts only when it is attached
  bool list = false;
  bool status = false;
  bool watch = false;
  bool diagnose = false;
  std::string interval;
  bool version = false;
  bool json = false;
  bool force = false;
  bool lazy = false;
  std::string swap;
  std::string device;
  std::string connections = "1";
  std::string timeout = "0";
  std::string recheck;
  std::string dead_timeout = "60";
  std::vector<std::string> queue;
  std::string nbdtab;
  AttachOptions attach;
};

Error usage(std::string why) { return attach_error(ExitCode::usage, std::move(why)); }

void declare(CLI::App& app, RawOptions& raw) {
  AttachOptions& attach = raw.attach;
  app.add_option("device", raw.device, "/dev/nbdN, or - for a free one");
  app.add_flag("--reattach", raw.reattach, "keep a device again whose keeper is gone");
  app.add_flag("--upgrade", raw.upgrade, "another server in its place, while it is in use");
  app.add_flag("--changes-data", raw.changes_data,
               "with --upgrade: also to other data, of a device that is not in use");
  app.add_flag("--resize", raw.resize, "give the device the size that its export has now");
  app.add_flag("--detach", raw.detach, "free the device when nothing uses it");
  app.add_flag("--force", raw.force,
               "with --detach: also when it is in use; with --resize: shrink; data is lost");
  app.add_flag("--lazy", raw.lazy, "with --detach: as soon as nothing uses it");
  app.add_flag("--list", raw.list, "show every attached device");
  app.add_flag("--status", raw.status, "show one attached device");
  app.add_flag("--watch", raw.watch, "show again and again what devices do");
  app.add_flag("--diagnose", raw.diagnose,
               "write all about a device, without secrets, for a report of a problem");
  app.add_option("--interval", raw.interval, "with --watch: how often (1s)");
  app.add_flag("--json", raw.json, "with --list and --status: for programs");
  app.add_flag("--version", raw.version, "print the version");
  app.add_flag("-r,--read-only,--readonly", attach.read_only, "the device cannot be written to");
  app.add_flag("--swap{on}", raw.swap,
               "the device may be swap: guard keeper and server, or refuse; =force: do what can "
               "be done; =check: only tell what that is");
  app.add_flag("-v,--verbose", attach.verbose, "tell every step on stderr");
  app.add_flag("-f,--foreground", attach.foreground, "stay; ^C detaches when nothing uses it");
  app.add_option("--connections", raw.connections, "sockets between kernel and server (1)");
  app.add_option("-e,--export", attach.export_name, "the export of the plugin to attach");
  app.add_option("--name", attach.name,
                 "of the attachment: when it is there already, with the same arguments, its "
                 "device is printed");
  app.add_option("--metrics", attach.metrics,
                 "answer Prometheus at [HOST]:PORT or the path of a Unix socket");
  app.add_option("--timeout", raw.timeout,
                 "kill a socket whose request is older; 0 (default): never");
  app.add_option("--recheck", raw.recheck,
                 "how often the driver looks for a new server (1s; 30s with several connections)");
  app.add_option("--dead-timeout", raw.dead_timeout,
                 "how long requests wait when there is no server (60s)");
  app.add_flag("--scope", attach.scope, "outlive the container or job that this is started in");
  app.add_option("--nbdtab", raw.nbdtab, "where a device without a plugin is looked up");
  app.add_flag("--no-scan{false}", attach.scan,
               "nobody looks for partitions and file systems on it: for images of strangers");
  app.add_option("--queue", raw.queue, "KEY=VALUE of the device's queue in the kernel")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--filter", attach.filters, "a filter before the plugin; the first is outermost")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--server-option", attach.server_options, "an option for nbdkit, as it is")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--server", attach.server, "the server's program (nbdkit beside this one)");
  app.add_option("-u,--user", attach.user, "the server runs as this user");
  app.add_option("-g,--group", attach.group, "the server runs as this group");
}

// Whole seconds for the driver: never less than what was asked for.
Result<Seconds> parse_seconds(std::string_view option, const std::string& text) {
  Result<Nanoseconds> delay = parse_delay(text);
  if (!delay.ok()) return usage(fmt::format("{}: {}", option, delay.error().message()));
  return std::chrono::ceil<Seconds>(delay.value());
}

Result<void> understand_times(const RawOptions& raw, AttachOptions& attach) {
  Result<Seconds> timeout = parse_seconds("--timeout", raw.timeout);
  if (!timeout.ok()) return std::move(timeout).error();
  // The driver counts it in ticks of its clock, up to a thousand a second, in 32 bits.
  constexpr Seconds kTimeoutMax{30 * 86'400};
  if (timeout.value() > kTimeoutMax) {
    return usage(fmt::format("--timeout={}: must be at most 30 days; 0 is never", raw.timeout));
  }
  attach.request_timeout = timeout.value();
  Result<Seconds> dead = parse_seconds("--dead-timeout", raw.dead_timeout);
  if (!dead.ok()) return std::move(dead).error();
  attach.dead_timeout = dead.value();
  if (raw.recheck.empty()) return {};
  if (attach.request_timeout > Seconds(0)) {
    return usage("--recheck and --timeout exclude each other: the driver has one timer for both");
  }
  Result<Nanoseconds> recheck = parse_delay(raw.recheck);
  if (!recheck.ok()) return usage(fmt::format("--recheck: {}", recheck.error().message()));
  constexpr Milliseconds kRecheckMin{10};
  constexpr Milliseconds kRecheckMax = Seconds(86'400);
  attach.recheck = std::chrono::ceil<Milliseconds>(recheck.value());
  if (*attach.recheck < kRecheckMin || *attach.recheck > kRecheckMax) {
    return usage(fmt::format("--recheck={}: must be from 10ms to 86400s", raw.recheck));
  }
  return {};
}

Result<void> understand_numbers(const RawOptions& raw, AttachOptions& attach) {
  auto connections = parse_unsigned(raw.connections, AttachOptions::kConnectionsMax);
  if (!connections.ok() || connections.value() == 0) {
    return usage(fmt::format("--connections={}: must be from 1 to {}", raw.connections,
                             AttachOptions::kConnectionsMax));
  }
  attach.connections = static_cast<unsigned>(connections.value());
  for (const std::string& setting : raw.queue) {
    Result<std::pair<std::string, std::string>> parsed = parse_queue_setting(setting);
    if (!parsed.ok()) return std::move(parsed).error();
    attach.queue.push_back(std::move(parsed).value());
  }
  return understand_times(raw, attach);
}

Result<std::string> find_server(const std::string& given) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (given.empty()) {
    fs::path self = fs::read_symlink("/proc/self/exe", error);
    if (error) return usage("/proc/self/exe: " + error.message());
    return (self.parent_path() / "nbdkit").string();
  }
  // Somebody else's program of that name must not be run as root: PATH is not searched.
  if (given.find('/') == std::string::npos) {
    return usage(fmt::format("--server={0}: must be a path, such as ./{0}", given));
  }
  fs::path path = fs::absolute(given, error);
  if (error) return usage(fmt::format("--server={}: {}", given, error.message()));
  return path.string();
}

Result<void> understand_swap(const std::string& given, AttachOptions& attach) {
  if (given.empty()) return {};
  if (given == "on") {
    attach.swap = SwapMode::on;
  } else if (given == "force") {
    attach.swap = SwapMode::force;
  } else {
    return usage(fmt::format("--swap={}: must be --swap, --swap=force or --swap=check", given));
  }
  return {};
}

// The address of an export is for the kernel itself; with anything that needs a server of ours it
// is for the plugin.
Result<void> understand_remote(AttachOptions& attach, bool may_be_direct) {
  if (attach.plugin.empty() || !is_remote_uri(attach.plugin.front())) return {};
  const std::string address = attach.plugin.front();
  if (!attach.export_name.empty()) {
    return usage(fmt::format("-e {}: the export is a part of the address ({})", attach.export_name,
                             address));
  }
  const bool plain = attach.filters.empty() && attach.server_options.empty() &&
                     attach.server.empty() && attach.user.empty() && attach.group.empty() &&
                     attach.swap == SwapMode::off && attach.scan;
  if (may_be_direct && plain && is_kernel_uri(address)) {
    Result<RemoteOptions> remote = RemoteSource::parse(attach);
    if (!remote.ok()) return usage(remote.error().message());
    attach.export_name = remote.value().wishes.export_name;
    return {};
  }
  attach.plugin.front() = "uri=" + address;
  attach.plugin.insert(attach.plugin.begin(), "nbd");
  return {};
}

// It is a part of a file's name, and of a line that people read.
Result<void> check_name(const std::string& name) {
  constexpr std::size_t kNameMax = 64;
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:@+-";
  if (name.size() <= kNameMax && name.find_first_not_of(kLetters) == std::string::npos) return {};
  return usage(fmt::format("--name={}: must be at most {} of A-Z, a-z, 0-9 and . _ : @ + -", name,
                           kNameMax));
}

// The keeper leaves the folder that it was started in.
Result<void> understand_metrics(std::string& address) {
  if (address.empty()) return {};
  if (address.find('/') != std::string::npos) {
    std::error_code error;
    std::filesystem::path path = std::filesystem::absolute(address, error);
    if (error) return usage(fmt::format("--metrics={}: {}", address, error.message()));
    address = path.string();
  }
  Result<void> checked = MetricsServer::check(address);
  if (!checked.ok()) return usage(std::string(checked.error().message()));
  return {};
}

Result<void> understand_watch(const RawOptions& raw, AttachCommand& command) {
  constexpr Milliseconds kIntervalMin{10};
  constexpr Milliseconds kIntervalMax = Seconds(86'400);
  command.action = AttachCommand::Action::watch;
  command.all = raw.device.empty();
  if (!command.all) {
    Result<std::uint32_t> index = parse_device_name(raw.device);
    if (!index.ok()) return usage(std::string(index.error().message()));
    command.index = index.value();
  }
  if (raw.interval.empty()) return {};
  Result<Nanoseconds> interval = parse_delay(raw.interval);
  if (!interval.ok()) return usage("--interval: " + std::string(interval.error().message()));
  command.interval = std::chrono::ceil<Milliseconds>(interval.value());
  if (command.interval >= kIntervalMin && command.interval <= kIntervalMax) return {};
  return usage(fmt::format("--interval={}: must be from 10ms to 86400s", raw.interval));
}

Result<void> understand_attach(RawOptions& raw, std::vector<std::string> rest,
                               AttachCommand& command) {
  if (!rest.empty() && rest.front() == "--") rest.erase(rest.begin());
  if (rest.empty() && !raw.reattach)
    return usage("which plugin? (nbdkit-attach /dev/nbdN PLUGIN key=value...)");
  if (!rest.empty() && rest.front().size() > 1 && rest.front().starts_with('-')) {
    return usage(
        fmt::format("unknown option {0}; for nbdkit's own: --server-option={0}", rest.front()));
  }
  command.attach = std::move(raw.attach);
  command.attach.plugin = std::move(rest);
  command.attach.reattach = raw.reattach;
  command.attach.force = raw.force;
  NBDKIT_TRY(check_name(command.attach.name));
  NBDKIT_TRY(understand_metrics(command.attach.metrics));
  NBDKIT_TRY(understand_swap(raw.swap, command.attach));
  NBDKIT_TRY(understand_remote(command.attach, !raw.upgrade));
  if (raw.device != "-") command.attach.index = command.index;
  Result<std::string> server = find_server(command.attach.server);
  if (!server.ok()) return std::move(server).error();
  command.attach.server = std::move(server).value();
  return understand_numbers(raw, command.attach);
}

Result<void> understand_upgrade(RawOptions& raw, std::vector<std::string> rest,
                                AttachCommand& command) {
  command.action = AttachCommand::Action::upgrade;
  if (!raw.of_the_device.empty()) {
    return usage(
        fmt::format("{} is the device's, from when it is attached to when it is detached; "
                    "--upgrade cannot change it",
                    raw.of_the_device));
  }
  command.upgrade.changes_data = raw.changes_data;
  if (!raw.attach.server.empty()) {
    Result<std::string> server = find_server(raw.attach.server);
    if (!server.ok()) return std::move(server).error();
    command.upgrade.server = std::move(server).value();
  }
  AttachOptions& given = raw.attach;
  bool alone = rest.empty();
  if (alone && given.filters.empty() && given.server_options.empty() && given.user.empty() &&
      given.group.empty()) {
    return {};
  }
  if (alone)
    return usage("other filters, options or users need the plugin and its parameters, too");
  // Only what a server is started from is looked at.
  raw.device.clear();
  NBDKIT_TRY(understand_attach(raw, std::move(rest), command));
  command.action = AttachCommand::Action::upgrade;
  command.upgrade.start = command.attach;
  return {};
}

bool only_looks(const RawOptions& raw) {
  return raw.list || raw.status || raw.watch || raw.diagnose;
}

bool checks_swap(const RawOptions& raw) { return raw.swap == "check"; }

// Whether the options that were given go together.
Result<void> check_together(const RawOptions& raw) {
  const bool looks = only_looks(raw);
  if (raw.detach + raw.upgrade + raw.resize + raw.list + raw.status + raw.watch + raw.diagnose +
          raw.reattach >
      1) {
    return usage(
        "--reattach, --upgrade, --resize, --detach, --list, --status, --watch and --diagnose "
        "exclude each other");
  }
  if (raw.force && !raw.detach && !raw.resize && !raw.reattach)
    return usage("--force goes with --detach, --resize or --reattach");
  if (raw.changes_data && !raw.upgrade) return usage("--changes-data goes with --upgrade");
  if (!raw.attach.metrics.empty() && (raw.detach || raw.resize || looks)) {
    return usage("--metrics goes with a device to attach");
  }
  if (!raw.attach.name.empty() && (raw.detach || raw.resize || looks || raw.reattach)) {
    return usage("--name goes with a device to attach");
  }
  if (raw.json && !raw.list && !raw.status && !checks_swap(raw))
    return usage("--json goes with --list, --status or --swap=check");
  if (!raw.interval.empty() && !raw.watch) return usage("--interval goes with --watch");
  if (raw.lazy && (!raw.detach || raw.force)) return usage("--lazy goes with --detach alone");
  return {};
}

Result<AttachCommand> understand(RawOptions& raw, std::vector<std::string> rest) {
  AttachCommand command;
  if (raw.version) {
    command.action = AttachCommand::Action::print;
    command.text = "nbdkit-attach " NBDKIT_VERSION "\n";
    return command;
  }
  NBDKIT_TRY(check_together(raw));
  command.json = raw.json;
  command.detach.lazy = raw.lazy;
  command.detach.force = raw.force;
  command.force = raw.force;
  if (checks_swap(raw)) {
    command.action = AttachCommand::Action::check_swap;
    return command;
  }
  if (raw.list) {
    command.action = AttachCommand::Action::list;
    if (!raw.device.empty()) return usage("--list takes no device (--status does)");
    return command;
  }
  if (raw.watch) {
    NBDKIT_TRY(understand_watch(raw, command));
    if (!rest.empty()) return usage(fmt::format("too many arguments: {}", rest.front()));
    return command;
  }
  if (raw.device.empty()) return usage("which device? (/dev/nbdN, or - for a free one)");
  bool attaching = !raw.detach && !only_looks(raw) && !raw.upgrade && !raw.resize;
  if (raw.reattach && raw.device == "-") return usage("--reattach needs the device's name");
  if (!attaching || raw.device != "-") {
    Result<std::uint32_t> index = parse_device_name(raw.device);
    if (!index.ok()) return usage(std::string(index.error().message()));
    command.index = index.value();
  }
  if (attaching) {
    NBDKIT_TRY(understand_attach(raw, std::move(rest), command));
    return command;
  }
  if (raw.upgrade) {
    NBDKIT_TRY(understand_upgrade(raw, std::move(rest), command));
    return command;
  }
  if (raw.diagnose && !rest.empty()) {
    command.file = rest.front();
    rest.erase(rest.begin());
  }
  command.action = raw.detach     ? AttachCommand::Action::detach
                   : raw.diagnose ? AttachCommand::Action::diagnose
                   : raw.resize   ? AttachCommand::Action::resize
                                  : AttachCommand::Action::status;
  if (!rest.empty()) return usage(fmt::format("too many arguments: {}", rest.front()));
  return command;
}

// A device alone: what is to be attached to it stands there.
bool asks_nbdtab(const RawOptions& raw, const std::vector<std::string>& rest) {
  const bool other = raw.detach || raw.upgrade || raw.resize || only_looks(raw) || raw.reattach ||
                     raw.version || raw.swap == "check";
  return !other && rest.empty() && !raw.device.empty() && raw.device != "-";
}

}  // namespace

// CLI11 would take the next word for the value.
Result<void> refuse_empty_values(int argc, char* const* argv) {
  for (int i = 1; i < argc; ++i) {
    std::string_view word = argv[i];
    if (word.substr(0, 1) == "-" && word.back() == '=') {
      return usage(fmt::format("{}: nothing stands behind the '='", word));
    }
    // Behind the device comes the plugin, and what follows that is not ours.
    if (word.substr(0, 5) == "/dev/") break;
  }
  return {};
}

Result<AttachCommand> parse_words(std::vector<const char*> words, bool with_nbdtab) {
  RawOptions raw;
  CLI::App app{kDescription, "nbdkit-attach"};
  app.set_help_flag("--help", "print this");
  // All from the plugin on is not ours.
  app.prefix_command();
  declare(app, raw);
  try {
    app.parse(static_cast<int>(words.size()), words.data());
    for (const char* option : {"--connections", "--export", "--timeout", "--recheck",
                               "--dead-timeout", "--read-only", "--foreground", "--swap", "--name",
                               "--metrics", "--queue", "--no-scan", "--nbdtab", "--scope"}) {
      if (app.count(option) > 0) raw.of_the_device = option;
    }
  } catch (const CLI::CallForHelp&) {
    AttachCommand command;
    command.action = AttachCommand::Action::print;
    command.text = app.help();
    return command;
  } catch (const CLI::ParseError& error) {
    return usage(error.what());
  }
  std::vector<std::string> rest = app.remaining();
  const bool asks = with_nbdtab && asks_nbdtab(raw, rest);
  if (with_nbdtab && !asks && !raw.nbdtab.empty()) {
    return usage(fmt::format("--nbdtab={}: goes with a device alone", raw.nbdtab));
  }
  if (!asks) return understand(raw, std::move(rest));
  const std::string file = raw.nbdtab.empty() ? std::string(kNbdtab) : raw.nbdtab;
  Result<NbdtabLine> line = read_nbdtab(file, raw.device);
  if (!line.ok()) return std::move(line).error();
  // As if it had been written here.
  for (const std::string& word : line.value().options) words.push_back(word.c_str());
  for (const std::string& word : line.value().plugin) words.push_back(word.c_str());
  Result<AttachCommand> command = parse_words(std::move(words), false);
  if (command.ok() && command.value().action != AttachCommand::Action::attach) {
    return usage(fmt::format("{}: only options of an attachment can stand there", file));
  }
  return command;
}

Result<AttachCommand> parse_attach_command(int argc, char* const* argv) {
  NBDKIT_TRY(refuse_empty_values(argc, argv));
  return parse_words(std::vector<const char*>(argv, argv + argc), true);
}

}  // namespace nbdkit
