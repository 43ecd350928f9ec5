// SPDX-License-Identifier: BSD-3-Clause
// Another server takes the place of one that runs. The driver sees nothing of it: the sockets stay,
// and only who reads them changes, between two requests.
#include <fcntl.h>
#include <fmt/format.h>

#include <utility>

#include "attach/attachment.h"
#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

constexpr Milliseconds kPause{20};
constexpr Seconds kOrphansMax{1};
// A successor that has not lived for longer was no good.
constexpr Seconds kTrialPeriod{60};

Error refusal(std::string sentence) {
  return attach_error(ExitCode::not_supported, std::move(sentence));
}

Error mismatch(std::string sentence) {
  return attach_error(ExitCode::identity_mismatch, std::move(sentence));
}

}  // namespace

Task<UpgradeReport> Attachment::upgrade(const UpgradeOptions& wanted) {
  Result<void> may = check_may_upgrade(wanted);
  if (!may.ok()) co_await fail(std::move(may).error());
  change_ = Change::preparing;
  Result<UpgradeReport> done = co_await replace_server(wanted).as_result();
  std::string problem;
  if (!done.ok()) problem = done.error().message();
  co_await end_change(problem);
  if (!done.ok()) {
    log_.error("", "/dev/nbd{}: not upgraded: {}", *index_, done.error().message());
    co_await fail(std::move(done).error());
  }
  changed_();
  co_await end_spare();
  keep_spare();
  // Every request was answered a moment ago, so the driver waits for none (attachment_resize.cc).
  const std::uint64_t device_size = export_.size;
  bool grown = served_.size > device_size && check_size(served_.size, false).ok();
  Result<void> resized = Result<void>();
  if (grown) resized = co_await set_kernel_size(served_.size).as_result();
  if (!resized.ok()) log_.error("", "/dev/nbd{}: {}", *index_, resized.error().message());
  // The one before has not as much.
  if (export_.size > device_size) previous_.reset();
  Result<void> scanned = Result<void>();
  if (wanted.changes_data) scanned = co_await scan_again().as_result();
  if (!scanned.ok()) log_.error("", "/dev/nbd{}: {}", *index_, scanned.error().message());
  co_return done.value();
}

// `error` says why the change has failed; empty: it has not.
Task<void> Attachment::end_change(const std::string& error) {
  bool half_way = !error.empty() && change_ == Change::moving;
  if (successor_) co_await end_successor();
  change_ = Change::none;
  if (closed_) co_await fail(Error(std::errc::operation_canceled, "the device is being detached"));
  if (!server_->end().empty()) {
    server_ended();
  } else if (half_way) {
    begin_recovery(fmt::format("nobody knows what the server does: {}", error));
  } else if (dead_ > 0) {
    begin_replacing();
  }
}

Result<void> Attachment::check_may_change(std::string_view what) const {
  std::string node = fmt::format("/dev/nbd{}", *index_);
  if (remote_) {
    return refusal(
        fmt::format("{}: its sockets lead to a server of others, whose export has its size for as "
                    "long as it is connected; detach and attach it",
                    node));
  }
  if (change_ != Change::none) {
    return attach_error(ExitCode::busy,
                        fmt::format("{} is being upgraded or resized already", node));
  }
  if (state_ != DeviceState::connected || recovering_ || dead_ > 0) {
    return attach_error(ExitCode::busy,
                        fmt::format("{} is {}; only a device that is connected can be {}", node,
                                    state_name(state_), what));
  }
  if (!server_->has_handoff()) {
    return refusal(
        fmt::format("{}: its keeper has not started its server and cannot talk to it; "
                    "detach and attach it",
                    node));
  }
  return {};
}

Result<void> Attachment::check_may_upgrade(const UpgradeOptions& wanted) const {
  NBDKIT_TRY(check_may_change("upgraded"));
  std::string node = fmt::format("/dev/nbd{}", *index_);
  if (state_after_server_end(export_.survives, export_.read_only()) == DeviceState::lost) {
    return refusal(
        fmt::format("{}: answered writes are in the server's memory and would be gone", node));
  }
  if (!wanted.start && !missing_.empty()) {
    return refusal(
        fmt::format("{}: these parameters, secrets, were only in the memory of its first "
                    "keeper: {}; give all of PLUGIN KEY=VALUE... again",
                    node, missing_));
  }
  if (wanted.start && !named_descriptors(*wanted.start).empty()) {
    return refusal("a running keeper cannot be given descriptors (fd=, dirfd=); use a path");
  }
  if (!wanted.changes_data) return {};
  Result<NbdDevice> device = sysfs_.device(*index_);
  if (!device.ok()) return std::move(device).error();
  std::vector<DeviceUse> uses = find_uses(KernelFiles(), device.value());
  std::erase_if(uses, [](const DeviceUse& use) { return use.passing; });
  if (uses.empty()) return {};
  return attach_error(ExitCode::busy, fmt::format("{} is in use, so its data cannot be changed: {}",
                                                  node, describe_uses(uses)));
}

Result<Attachment::Launch> Attachment::launch_of(const UpgradeOptions& wanted) const {
  Launch launch;
  launch.options = options_;
  AttachOptions& options = launch.options;
  if (wanted.start) {
    const AttachOptions& given = *wanted.start;
    options.user = given.user;
    options.group = given.group;
    options.filters = given.filters;
    options.server_options = given.server_options;
    options.plugin = given.plugin;
    options.folder = given.folder;
    options.environment = given.environment;
    options.file_mask = given.file_mask;
    options.surroundings = given.surroundings;
  }
  if (!wanted.server.empty()) options.server = wanted.server;
  launch.program.reset(::open(options.server.c_str(), O_PATH | O_CLOEXEC));
  if (!launch.program) return os_error(options.server);
  Result<UniqueFd> start = seal(save_options(options));
  if (!start.ok()) return std::move(start).error();
  launch.start = std::move(start).value();
  return launch;
}

Task<UpgradeReport> Attachment::replace_server(const UpgradeOptions& wanted) {
  co_await prepare_successor(wanted);
  if (closed_ || !server_->end().empty()) {
    co_await fail(Error(std::errc::operation_canceled, "the server has ended meanwhile"));
  }
  UpgradeReport report = co_await move_to_successor(wanted);
  co_return report;
}

// Everything that may fail or take long without anybody waiting for it.
Task<void> Attachment::prepare_successor(const UpgradeOptions& wanted) {
  Result<Launch> launch = launch_of(wanted);
  if (!launch.ok()) co_await fail(std::move(launch).error());
  Result<ServerLock> lock = ServerLock::create(*folder_);
  if (!lock.ok()) co_await fail(std::move(lock).error());
  auto process = std::make_unique<ServerProcess>(loop_, log_);
  successor_ = std::make_unique<Successor>(std::move(launch).value(), std::move(lock).value(),
                                           std::move(process));
  Successor& next = *successor_;
  // What the old one has died of, another one may survive.
  ServerStart from{
      next.launch.options, next.launch.program.get(), next.launch.start.get(), next.lock, {}};
  Result<void> started = start_process(*next.process, from, next.traces);
  if (!started.ok()) co_await fail(std::move(started).error());
  // It answers when it is configured and has loaded its plugin.
  Result<std::vector<HandoffListed>> ready = co_await next.process->handoff().list().as_result();
  if (!ready.ok()) co_await next.process->explain(std::move(ready).error());
  if (!served_.shared_open) co_return;
  HandoffQuery query;
  query.export_name = options_.export_name;
  query.kernel = true;
  Result<HandoffExport> info = co_await next.process->handoff().query(query).as_result();
  if (!info.ok()) co_await next.process->explain(std::move(info).error());
  Result<void> fits = check_successor(info.value(), wanted);
  if (!fits.ok()) co_await fail(std::move(fits).error());
}

Task<UpgradeReport> Attachment::move_to_successor(const UpgradeOptions& wanted) {
  change_ = Change::moving;
  HandoffServe pattern;
  pattern.export_name = options_.export_name;
  pattern.kernel = true;
  ConnectionMove move(loop_, server_ends_, std::move(pattern));
  UpgradeReport report;
  Nanoseconds began = loop_.now();
  Result<void> taken = co_await move.take(server_->handoff()).as_result();
  if (!taken.ok()) {
    if (is_refusal(taken.error())) change_ = Change::preparing;
    co_await fail(std::move(taken).error());
  }
  Nanoseconds taken_at = loop_.now();
  report.hand_over = taken_at - began;
  HandoffClient& next = successor_->process->handoff();
  auto accept = [this, &wanted](const HandoffExport& info) {
    return check_successor(info, wanted);
  };
  Result<HandoffExport> opened = co_await move.open(next, accept).as_result();
  if (!opened.ok()) {
    // It has not read a byte; and what does not run cannot do so any more.
    co_await end_successor();
    co_await move.restore(server_->handoff());
    change_ = Change::preparing;
    co_await fail(std::move(opened).error());
  }
  co_await move.go_on(next);
  report.activate = loop_.now() - taken_at;
  take_successor(std::move(opened).value(), wanted.changes_data);
  co_return report;
}

Result<void> Attachment::check_successor(const HandoffExport& info,
                                         const UpgradeOptions& wanted) const {
  if (info.size < export_.size) {
    return mismatch(
        fmt::format("the export has {} bytes and the device {}; shrink the device first "
                    "(--resize --force)",
                    info.size, export_.size));
  }
  if (!wanted.changes_data) {
    if (info.identity != served_.identity) {
      return mismatch(
          fmt::format("it is other data ({} instead of {}); --changes-data allows it for "
                      "a device that is not in use",
                      info.identity, served_.identity));
    }
    if (info.mapping != served_.mapping) {
      return mismatch(
          fmt::format("it has its bytes in other places (\"{}\" instead of \"{}\"); "
                      "--changes-data allows it for a device that is not in use",
                      info.mapping, served_.mapping));
    }
    bool other_words = wanted.start && wanted.start->plugin != options_.plugin;
    if (info.identity.empty() && other_words) {
      return mismatch(
          "nobody can tell whether it is the same data; --changes-data allows it for a "
          "device that is not in use");
    }
  }
  bool flags_lost = (export_.transmission_flags & ~info.transmission_flags) != 0;
  if (flags_lost || (info.read_only() && !export_.read_only()) ||
      info.block_size.minimum > export_.block_size.minimum || info.survives < export_.survives) {
    return mismatch(
        "the export can do less than the device promises (flags, smallest request or "
        "what survives)");
  }
  return {};
}

// Whatever it has started, too.
Task<void> Attachment::end_successor() {
  std::unique_ptr<Successor> gone = std::move(successor_);
  if (!gone->traces.door.empty()) folder_->remove_file(gone->traces.door);
  co_await gone->process->stop(true);
  auto end = [&gone] { return gone->lock.end_holders(kOrphansMax); };
  Result<std::vector<pid_t>> left = co_await loop_.blocking(std::move(end)).as_result();
  if (!left.ok()) log_.error("", "{}", left.error().message());
}

void Attachment::take_successor(HandoffExport info, bool changes_data) {
  std::unique_ptr<Successor> next = std::move(successor_);
  previous_.reset();
  // What the old one had is not what is there now.
  if (!changes_data) {
    previous_.emplace(Launch{std::move(options_), std::move(program_), std::move(start_)});
  }
  previous_until_ = loop_.now() + kTrialPeriod;
  options_ = std::move(next->launch.options);
  program_ = std::move(next->launch.program);
  start_ = std::move(next->launch.start);
  missing_.clear();
  traces_ = std::move(next->traces);
  suspects_.forget();
  name_door();
  export_.identity = info.identity;
  export_.mapping = info.mapping;
  export_.shared_open = info.shared_open;
  served_ = std::move(info);
  std::unique_ptr<ServerProcess> old = std::exchange(server_, std::move(next->process));
  ServerLock old_lock = std::exchange(*server_lock_, std::move(next->lock));
  served_since_ = loop_.now();
  ++upgrades_;
  server_->is_ready();
  watch_connections();
  Result<void> left = leave_files();
  if (!left.ok()) log_.error("", "{}", left.error().message());
  log_.warning("", "/dev/nbd{}: upgraded, served by process {}", *index_,
               server_->pid().value_or(0));
  if (!gate_.enter()) return;
  finish(retire(std::move(old), std::move(old_lock)), [this](Result<void> done) {
    if (!done.ok()) log_.error("", "{}", done.error().message());
    gate_.leave();
  });
}

// Nobody waits for the old one, whose plugin may take its time to be unloaded.
Task<void> Attachment::retire(std::unique_ptr<ServerProcess> server, ServerLock lock) {
  co_await server->stop(false);
  auto end = [&lock] { return lock.end_holders(kOrphansMax); };
  Result<std::vector<pid_t>> left = co_await loop_.blocking(std::move(end)).as_result();
  if (!left.ok()) log_.error("", "{}", left.error().message());
}

void Attachment::go_back_to_previous() {
  bool on_trial = previous_ && loop_.now() < previous_until_;
  if (on_trial) {
    log_.error("",
               "/dev/nbd{}: the server that it was upgraded to has not lived for {} s; the one "
               "before is used again",
               *index_, kTrialPeriod.count());
    options_ = std::move(previous_->options);
    program_ = std::move(previous_->program);
    start_ = std::move(previous_->start);
    spare_ready_ = false;
    Result<void> left = leave_files();
    if (!left.ok()) log_.error("", "{}", left.error().message());
  }
  previous_.reset();
}

void Attachment::hang_up_successor() { successor_->process->hang_up(); }

// upgrade() looks at the old one when it is done; until requests have moved there is no reason to
// go on with it.
void Attachment::server_ended_in_change() {
  bool old_ended = !server_->end().empty();
  if (old_ended && change_ == Change::preparing && successor_) hang_up_successor();
}

Task<void> Attachment::wait_for_change() {
  Gate sleep(loop_);
  while (change_ != Change::none) co_await loop_.sleep(kPause, sleep);
}

}  // namespace nbdkit
