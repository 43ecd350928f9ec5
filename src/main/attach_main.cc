// SPDX-License-Identifier: BSD-3-Clause
// nbdkit-attach: one command from a plugin to a block device.

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "attach/keeper.h"
#include "attach/listing.h"
#include "attach/server_command.h"
#include "base/notify_socket.h"
#include "base/secret.h"
#include "main/attach_changes.h"
#include "main/attach_detach.h"
#include "main/attach_diagnose.h"
#include "main/attach_name.h"
#include "main/attach_options.h"
#include "main/attach_report.h"
#include "main/attach_scope.h"
#include "main/attach_watch.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kStoredMax = 1024;

int to_status(ExitCode code) { return static_cast<int>(code); }

int fail_with(const Error& error) {
  print_error(error);
  return to_status(exit_code_of(error));
}

// What the caller left open by accident must not stay open for as long as the device lives, and
// must not look like a user of the device that is to be detached.
void close_strangers(const std::vector<int>& named_ones) {
  unsigned next = 3;
  for (int number : named_ones) {
    unsigned named = static_cast<unsigned>(number);
    if (named > next) ::close_range(next, named - 1, 0);
    next = named + 1;
  }
  ::close_range(next, ~0u, 0);
}

// The keeper's command line is there for everybody to see, for as long as the device lives.
void hide_secrets(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::string_view argument = argv[i];
    std::string_view secret = secret_in(argument);
    if (secret.empty()) continue;
    char* begin = argv[i] + (secret.data() - argument.data());
    std::fill_n(begin, secret.size(), '*');
  }
}

// Without the terminal, and with nothing that it prints on stdout: the command does that.
void leave_session() {
  ::setsid();
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return;
  ::dup2(null.get(), STDIN_FILENO);
  ::dup2(null.get(), STDOUT_FILENO);
}

// In the command, which the service manager has started and believes.
ExitCode wait_for_keeper(UniqueFd report, const NotifySocket& manager, pid_t keeper) {
  constexpr Seconds kBarrierMax{5};
  ExitCode code = pass_report_on(std::move(report));
  if (code != ExitCode::ok) return code;
  Result<void> told = manager.send(fmt::format("READY=1\nMAINPID={}", keeper));
  if (told.ok()) told = manager.barrier(kBarrierMax);
  if (!told.ok()) print_error(told.error());
  return code;
}

// What is there already needs no keeper of ours.
int print_node(const std::string& node, const NotifySocket& manager) {
  fmt::print("{}\n", node);
  Result<void> told = manager.send("READY=1");
  if (!told.ok()) print_error(told.error());
  return std::fflush(stdout) == 0 ? 0 : to_status(ExitCode::failure);
}

int keep(const AttachOptions& options, Attachment::StoredFiles stored, KeeperLog& log,
         KeeperReport& report, const NotifySocket& manager, OwnScope& scope) {
  Result<void> joined = scope.join();
  if (!joined.ok()) report.failed(joined.error());
  ExitCode code = joined.ok() ? Keeper(options, std::move(stored), log, report, manager).run()
                              : exit_code_of(joined.error());
  scope.leave();
  return to_status(code);
}

int attach(const AttachOptions& options, Attachment::StoredFiles stored,
           const NotifySocket& manager, int argc, char** argv) {
  if (options.reattach && !options.foreground) {
    Result<bool> revived = revive_by_command(*options.index, options.force);
    if (!revived.ok()) return fail_with(revived.error());
    if (revived.value()) return print_node(fmt::format("/dev/nbd{}", *options.index), manager);
  }
  OwnScope scope;
  if (options.scope) {
    Result<OwnScope> prepared = OwnScope::prepare(argv, static_cast<bool>(manager));
    if (!prepared.ok()) return fail_with(prepared.error());
    scope = std::move(prepared).value();
  }
  Result<NameTurn> turn = NameTurn::wait(options.name);
  if (!turn.ok()) return fail_with(turn.error());
  Result<std::string> there = find_named(options);
  if (!there.ok()) return fail_with(there.error());
  if (!there.value().empty()) return print_node(there.value(), manager);
  ::signal(SIGPIPE, SIG_IGN);
  KeeperLog log(options.verbose);
  if (options.foreground) {
    hide_secrets(argc, argv);
    ForegroundReport report(manager, turn.value());
    return keep(options, std::move(stored), log, report, manager, scope);
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) return fail_with(os_error("pipe"));
  UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  pid_t pid = ::fork();
  if (pid < 0) return fail_with(os_error("fork"));
  if (pid > 0) {
    out.reset();
    return to_status(wait_for_keeper(std::move(in), manager, pid));
  }
  in.reset();
  hide_secrets(argc, argv);
  leave_session();
  BackgroundReport report(log, std::move(out), turn.value());
  return keep(options, std::move(stored), log, report, manager, scope);
}

int show_status(std::uint32_t index, bool json) {
  Result<AttachmentStatus> status = find_attachment(Sysfs(), index);
  if (!status.ok()) return fail_with(status.error());
  fmt::print("{}", json ? to_json(status.value()).dump(2) + "\n" : describe(status.value()));
  return 0;
}

int show_list(bool json) {
  std::vector<AttachmentStatus> list = list_attachments(Sysfs());
  if (!json) {
    fmt::print("{}", describe_list(list));
    return 0;
  }
  Json array = Json::array();
  for (const AttachmentStatus& status : list) array.push(to_json(status));
  fmt::print("{}\n", array.dump(2));
  return 0;
}

int check_swap(bool json) {
  Result<std::vector<Guard>> guards = try_guards();
  if (!guards.ok()) return fail_with(guards.error());
  fmt::print("{}", json ? to_json(guards.value()).dump(2) + "\n" : describe(guards.value()));
  bool complete = std::none_of(guards.value().begin(), guards.value().end(),
                               [](const Guard& guard) { return guard.missing(); });
  return to_status(complete ? ExitCode::ok : ExitCode::not_supported);
}

// What the service manager has kept of a keeper before this one.
Attachment::StoredFiles take_stored() {
  const char* pid = ::getenv("LISTEN_PID");
  const char* count = ::getenv("LISTEN_FDS");
  bool ours = pid != nullptr && count != nullptr && fmt::format("{}", ::getpid()) == pid;
  Result<std::uint64_t> number = parse_unsigned(ours ? count : "0", kStoredMax);
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);
  Attachment::StoredFiles stored;
  for (std::uint64_t i = 0; number.ok() && i < number.value(); ++i) {
    int fd = 3 + static_cast<int>(i);
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) == 0) stored.emplace_back(fd);
  }
  return stored;
}

// The keeper leaves the folder that it was started in; the servers to come are to start there, and
// to find everything else as we do.
Result<void> set_surroundings(AttachOptions& options) {
  for (char** variable = environ; *variable != nullptr; ++variable) {
    options.environment.emplace_back(*variable);
  }
  mode_t mask = ::umask(077);
  ::umask(mask);
  options.file_mask = mask;
  options.surroundings = Surroundings::ours();
  std::error_code error;
  options.folder = std::filesystem::current_path(error).string();
  if (!error) return {};
  return attach_error(ExitCode::failure, "the current folder: " + error.message());
}

int upgrade(AttachCommand& command) {
  if (command.upgrade.start) {
    Result<void> set = set_surroundings(*command.upgrade.start);
    if (!set.ok()) return fail_with(set.error());
  }
  Result<void> done = upgrade_by_command(command.index, command.upgrade);
  return done.ok() ? 0 : fail_with(done.error());
}

int run(int argc, char** argv) {
  const NotifySocket manager = NotifySocket::from_environment();
  Result<AttachCommand> parsed = parse_attach_command(argc, argv);
  if (!parsed.ok()) return fail_with(parsed.error());
  AttachCommand& command = parsed.value();
  Attachment::StoredFiles stored = take_stored();
  std::vector<int> open = named_descriptors(command.attach);
  for (const UniqueFd& fd : stored) open.push_back(fd.get());
  std::sort(open.begin(), open.end());
  close_strangers(open);
  switch (command.action) {
    case AttachCommand::Action::attach: {
      Result<void> set = set_surroundings(command.attach);
      if (!set.ok()) return fail_with(set.error());
      return attach(command.attach, std::move(stored), manager, argc, argv);
    }
    case AttachCommand::Action::detach: {
      Result<void> done = detach_by_command(command.index, command.detach);
      return done.ok() ? 0 : fail_with(done.error());
    }
    case AttachCommand::Action::upgrade:
      return upgrade(command);
    case AttachCommand::Action::resize: {
      Result<void> done = resize_by_command(command.index, command.force);
      return done.ok() ? 0 : fail_with(done.error());
    }
    case AttachCommand::Action::status:
      return show_status(command.index, command.json);
    case AttachCommand::Action::list:
      return show_list(command.json);
    case AttachCommand::Action::watch: {
      std::optional<std::uint32_t> one;
      if (!command.all) one = command.index;
      Result<void> watched = watch_devices(one, command.interval);
      return watched.ok() ? 0 : fail_with(watched.error());
    }
    case AttachCommand::Action::diagnose: {
      Result<void> done = diagnose_by_command(command.index, command.file);
      return done.ok() ? 0 : fail_with(done.error());
    }
    case AttachCommand::Action::check_swap:
      return check_swap(command.json);
    case AttachCommand::Action::print:
      fmt::print("{}", command.text);
      return 0;
  }
  return to_status(ExitCode::failure);
}

}  // namespace
}  // namespace nbdkit

int main(int argc, char** argv) { return nbdkit::run(argc, argv); }
