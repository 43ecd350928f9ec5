// SPDX-License-Identifier: BSD-3-Clause
#include "attach/keeper.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <chrono>
#include <utility>

#include "attach/keeper_identity.h"
#include "attach/metrics.h"
#include "attach/upgrade_call.h"

namespace nbdkit {
namespace {

constexpr std::size_t kFixedWorkers = 4;  // of a guarded keeper, which must not need another
constexpr Milliseconds kLookEvery{500};   // whether a device that is to go is free
constexpr Seconds kWriteEvery{1};         // what could not be written before

// What detach, resize and reattach take; `lazy` only where it is given.
Result<void> read_switches(const RpcCall& call, bool& force, bool* lazy) {
  const Json::Object* params = call.params.as_object();
  for (std::size_t i = 0; params != nullptr && i < params->size(); ++i) {
    const Json::Member& member = (*params)[i];
    std::optional<bool> value = member.value.as_bool();
    bool known = member.name == "force" || (member.name == "lazy" && lazy != nullptr);
    if (!known || !value) {
      return Error(std::errc::argument_out_of_domain,
                   fmt::format("\"{}\" takes \"force\"{}, which is true or false", call.method,
                               lazy != nullptr ? " and \"lazy\"" : ""));
    }
    (member.name == "force" ? force : *lazy) = *value;
  }
  return {};
}

}  // namespace

Keeper::Keeper(const AttachOptions& options, Attachment::StoredFiles stored, KeeperLog& log,
               KeeperReport& report, const NotifySocket& manager)
    : reattaches_(options.reattach),
      log_(log),
      report_(report),
      manager_(manager),
      loop_(runtime_.main_loop()),
      watchdog_(loop_, manager),
      attachment_(loop_, log, options, std::move(stored), [this] { write_state(); }),
      control_(loop_, *this),
      metrics_(loop_, [this] { return metrics(); }),
      kept_(loop_),
      calls_(loop_) {}

Keeper::~Keeper() = default;

ExitCode Keeper::run() {
  Result<void> usable = loop_.usable();
  if (usable.ok()) usable = guard(attachment_.swap());
  if (!usable.ok()) {
    report_.failed(usable.error());
    return exit_code_of(usable.error());
  }
  finish(live(), [this](Result<void> result) {
    if (!result.ok()) exit_ = exit_code_of(result.error());
    loop_.stop();
  });
  watchdog_.start();
  loop_.run();
  return exit_;
}

// Who brings a server back must be able to do so without the memory that is on the device.
Result<void> Keeper::guard(SwapMode swap) {
  if (swap == SwapMode::off || guarded_ != SwapMode::off) return {};
  guarded_ = swap;
  guards_.take_rights();
  // Real-time: what it writes and asks the kernel for needs memory that only the device could
  // free, and only the reserves have.
  guards_.lock();
  if (guards_.complete()) return {};
  if (swap == SwapMode::on) {
    return attach_error(ExitCode::not_supported,
                        fmt::format("--swap: {}; --swap=force goes on without", guards_.missing()));
  }
  log_.warning("", "--swap=force: the machine may hang when it has no memory left: {}",
               guards_.missing());
  return {};
}

// Not before the signals are blocked: a thread would be ended by them.
Result<void> Keeper::fix_workers() {
  if (guarded_ == SwapMode::off) return {};
  return runtime_.workers().fix(kFixedWorkers);
}

Task<void> Keeper::live() {
  Result<void> begun = co_await begin().as_result();
  user_watch_.reset();
  if (begun.ok()) {
    NBDKIT_CHECK(kept_.enter());
    ready_ = true;
    write_later();
    store_files();
    report_.ready(fmt::format("/dev/nbd{}", attachment_.index()));
    tell_manager({});
    co_await kept_.drained();
    manager_.mention("STOPPING=1");
    co_await calls_.drained();
  }
  co_await attachment_.close();
  co_await control_.stop();
  co_await metrics_.stop();
  signals_watch_.reset();
  if (begun.ok()) co_return;
  report_.failed(begun.error());
  co_await fail(std::move(begun).error());
}

Task<void> Keeper::begin() {
  Result<void> watching = watch_signals();
  if (watching.ok()) watching = fix_workers();
  if (!watching.ok()) co_await fail(std::move(watching).error());
  watch_user();
  Result<void> metrics_open = open_metrics();
  if (!metrics_open.ok()) co_await fail(std::move(metrics_open).error());
  co_await attachment_.make();
  // An adopted device may be swap already, whatever this keeper was told.
  Result<void> guarded = guard(attachment_.swap());
  if (guarded.ok()) guarded = fix_workers();
  if (!guarded.ok()) log_.warning("", "{}", guarded.error().message());
  std::uint32_t index = attachment_.index();
  Result<void> listening = control_.start(attachment_.folder().socket_path(index));
  if (!listening.ok()) co_await fail(std::move(listening).error());
  start_metrics();
  write_state();
}

// What cannot be had is known before anything is attached, unless something is already.
Result<void> Keeper::open_metrics() {
  const std::string& address = attachment_.options().metrics;
  if (reattaches_ || address.empty()) return {};
  return metrics_.open(address);
}

// A device that is in use is kept all the same.
void Keeper::start_metrics() {
  const std::string& address = attachment_.options().metrics;
  if (address.empty()) return;
  Result<void> started;
  if (!metrics_.is_open()) started = metrics_.open(address);
  if (started.ok()) started = metrics_.start();
  if (!started.ok()) log_.warning("", "{}; nobody can ask for them", started.error().message());
}

Result<void> Keeper::watch_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGTERM);
  ::sigaddset(&set, SIGINT);
  ::sigaddset(&set, SIGHUP);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signals_.reset(::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!signals_) return os_error("signalfd");
  signals_watch_ = std::make_unique<FdWatch>(loop_, signals_.get(), [this] { take_signal(); });
  return signals_watch_->start(EPOLLIN);
}

// Who gives up waiting (^C) does not want the device any more.
void Keeper::watch_user() {
  int fd = report_.abandoned_fd();
  if (fd < 0) return;
  user_watch_ = std::make_unique<FdWatch>(loop_, fd, [this] {
    user_watch_->stop();  // A hang-up is told for as long as it is watched for.
    attachment_.interrupt();
  });
  Result<void> started = user_watch_->start(0);
  if (!started.ok()) log_.debug("", "{}", started.error().message());
}

void Keeper::take_signal() {
  signalfd_siginfo info;
  if (::read(signals_.get(), &info, sizeof(info)) != static_cast<ssize_t>(sizeof(info))) return;
  if (!ready_) return attachment_.interrupt();
  if (!calls_.enter()) return;
  bool may_leave = reattaches_ && static_cast<bool>(manager_) && info.ssi_signo == SIGTERM;
  finish(detach({}), [this, may_leave](Result<std::string> done) {
    if (!done.ok()) refused(done.error(), may_leave);
    calls_.leave();
  });
}

void Keeper::refused(const Error& error, bool may_leave) {
  // Neither what nothing serves any more, nor what another call is detaching, can be left.
  DeviceState state = attachment_.status().state;
  bool in_use = exit_code_of(error) == ExitCode::busy && ready_ && state != DeviceState::lost &&
                state != DeviceState::detaching;
  if (may_leave && in_use && calls_.enter()) {
    log_.warning("", "left to its server: {}", error.message());
    finish(leave(), [this](Result<void> left) {
      if (!left.ok()) log_.error("", "{}", left.error().message());
      calls_.leave();
    });
    return;
  }
  log_.warning("", "still attached: {}", error.message());
  tell_manager(fmt::format("still attached: {}", error.message()));
}

Task<void> Keeper::leave() {
  ready_ = false;
  co_await attachment_.let_go();
  kept_.leave();
}

// Server and keeper may be killed at once; what is only in their memory need not go with them.
void Keeper::store_files() const {
  if (!reattaches_ || !manager_.may_store()) return;
  constexpr std::string_view kName = "FDNAME=nbdkit-attach";
  Result<void> told = manager_.send(fmt::format("FDSTOREREMOVE=1\n{}", kName));
  for (int fd : attachment_.files_to_store()) {
    if (told.ok()) told = manager_.send(fmt::format("FDSTORE=1\nFDPOLL=0\n{}", kName), {&fd, 1});
  }
  if (!told.ok()) log_.warning("", "{}", told.error().message());
}

Task<std::string> Keeper::detach(DetachOptions options) {
  if (!ready_) co_await fail(attach_error(ExitCode::busy, "the device is not attached yet"));
  std::string held = co_await attachment_.detach(options);
  ready_ = false;
  co_await attachment_.close();
  kept_.leave();
  co_return held;
}

// The first look is at what another keeper has left, or at nothing.
void Keeper::notice_error() {
  const AttachmentStatus now = attachment_.status();
  std::string noticed = fmt::format("{} {}", now.restarts, now.last_error);
  bool news = !noticed_.empty() && noticed != noticed_ && !now.last_error.empty();
  noticed_ = std::move(noticed);
  if (!news) return;
  auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
  last_error_at_ = std::chrono::duration_cast<Seconds>(since_1970).count();
}

Result<void> Keeper::write_files() {
  Json json = to_json(status());
  json.set("boot_id", boot_id())
      .set("keeper_start_time", process_start_time(::getpid()))
      .set("handover", attachment_.handover());
  Result<void> written = attachment_.folder().write_state(attachment_.index(), json.dump(2) + "\n");
  if (written.ok()) written = attachment_.leave_missing_files();
  return written;
}

void Keeper::write_state() {
  notice_error();
  Result<void> written = write_files();
  unwritten_ = !written.ok();
  if (unwritten_) log_.warning("", "{}; tried again", written.error().message());
  if (!ready_) return;
  tell_manager({});
  write_later();
}

void Keeper::write_later() {
  if (!unwritten_ || writes_later_ || !calls_.enter()) return;
  writes_later_ = true;
  finish(write_when_possible(), [this](Result<void>) {
    writes_later_ = false;
    calls_.leave();
  });
}

// Nothing tells that there is room again.
Task<void> Keeper::write_when_possible() {
  while (unwritten_) {
    co_await loop_.sleep(kWriteEvery, calls_);
    if (ready_ && unwritten_ && attachment_.is_settled()) unwritten_ = !write_files().ok();
  }
}

// `notice`: what matters more than the state.
void Keeper::tell_manager(std::string_view notice) const {
  AttachmentStatus status = attachment_.status();
  std::string text =
      fmt::format("STATUS=/dev/nbd{}: {}", attachment_.index(), state_name(status.state));
  if (!status.reason.empty()) text += fmt::format(", {}", status.reason);
  if (!notice.empty()) text += fmt::format(", {}", notice);
  manager_.mention(text);
}

bool Keeper::knows(std::string_view method) const {
  return method == "status" || method == "detach" || method == "upgrade" || method == "resize" ||
         method == "reattach" || method == "compare" || method == "metrics" || method == "log";
}

Task<Json> Keeper::call(const RpcCall& call) {
  if (call.method == "detach") return call_detach(call);
  if (call.method == "upgrade") return call_upgrade(call);
  if (call.method == "resize") return call_resize(call);
  if (call.method == "reattach") return call_reattach(call);
  if (call.method == "compare") return call_compare(call);
  if (!call.params.is_null() && !call.params.as_object()->empty()) {
    return Task<Json>(Error(std::errc::argument_out_of_domain,
                            fmt::format("\"{}\" takes no parameters", call.method)));
  }
  if (call.method == "log") {
    Json lines = Json::array();
    for (std::string& line : log_.recent()) lines.push(std::move(line));
    return Task<Json>(Result<Json>(Json::object().set("lines", std::move(lines))));
  }
  return call.method == "metrics" ? call_metrics() : call_status();
}

Task<Json> Keeper::call_status() {
  AttachmentStatus now = co_await whole_status();
  co_return to_json(now);
}

Task<Json> Keeper::call_metrics() {
  std::string text = co_await metrics();
  co_return Json::object().set("text", std::move(text));
}

Task<AttachmentStatus> Keeper::whole_status() {
  co_await attachment_.look_at_performance();
  AttachmentStatus now = status();
  const PerformanceWatch* watch = attachment_.performance();
  if (watch != nullptr) now.performance = watch->performance();
  co_return now;
}

Task<std::string> Keeper::metrics() {
  AttachmentStatus now = co_await whole_status();
  Result<NbdCounters> counted = Sysfs().counters(now.device.index);
  std::optional<NbdCounters> counters;
  if (counted.ok()) counters = counted.value();
  const PerformanceWatch* watch = attachment_.performance();
  const RequestFigures* figures = watch != nullptr ? watch->figures() : nullptr;
  co_return format_metrics(now, counters, figures, last_error_at_);
}

AttachmentStatus Keeper::status() const {
  AttachmentStatus status = attachment_.status();
  status.detaching_lazily = lazy_;
  return status;
}

Task<Json> Keeper::call_detach(const RpcCall& call) {
  DetachOptions options;
  Result<void> read = read_switches(call, options.force, &options.lazy);
  if (!read.ok()) co_await fail(std::move(read).error());
  if (options.lazy) {
    Json answer = co_await detach_lazily();
    co_return answer;
  }
  std::string held = co_await detach(options);
  Json answer = Json::object();
  answer.set("detached", true).set("held", held.empty() ? Json() : Json(held));
  co_return answer;
}

// It is told who has it, and goes on its own when they have left.
Task<Json> Keeper::detach_lazily() {
  const DetachOptions options;
  Result<std::string> done = co_await detach(options).as_result();
  bool in_use = !done.ok() && exit_code_of(done.error()) == ExitCode::busy && ready_;
  if (!done.ok() && !in_use) co_await fail(std::move(done).error());
  Json answer = Json::object();
  answer.set("detached", done.ok()).set("held", Json());
  if (done.ok()) co_return answer;
  answer.set("waits", done.error().message());
  if (lazy_ || !calls_.enter()) co_return answer;
  lazy_ = true;
  write_state();
  finish(detach_when_free(), [this](Result<void>) {
    lazy_ = false;
    calls_.leave();
  });
  co_return answer;
}

Task<void> Keeper::detach_when_free() {
  while (ready_) {
    co_await loop_.sleep(kLookEvery, calls_);
    if (!ready_) co_return;
    const DetachOptions options;
    Result<std::string> done = co_await detach(options).as_result();
    if (done.ok() || exit_code_of(done.error()) == ExitCode::busy) continue;
    log_.error("", "/dev/nbd{}: {}", attachment_.index(), done.error().message());
    co_return;
  }
}

Task<Json> Keeper::call_resize(const RpcCall& call) {
  bool force = false;
  Result<void> read = read_switches(call, force, nullptr);
  if (!read.ok()) co_await fail(std::move(read).error());
  if (!ready_) co_await fail(attach_error(ExitCode::busy, "the device is not attached yet"));
  std::uint64_t size = co_await attachment_.resize(force);
  co_return Json::object().set("size", size);
}

Task<Json> Keeper::call_reattach(const RpcCall& call) {
  bool force = false;
  Result<void> read = read_switches(call, force, nullptr);
  if (!read.ok()) co_await fail(std::move(read).error());
  if (!ready_) co_await fail(attach_error(ExitCode::busy, "the device is not attached yet"));
  co_await attachment_.revive(force);
  co_return Json::object().set("served", true);
}

Task<Json> Keeper::call_compare(const RpcCall& call) {
  const Json* start = call.params.is_null() ? nullptr : call.params.find("start");
  bool alone = start != nullptr && call.params.as_object()->size() == 1;
  Result<SavedOptions> given = parse_saved_options(alone ? start->dump() : std::string());
  if (!given.ok()) {
    co_await fail(Error(std::errc::argument_out_of_domain,
                        "\"compare\" takes \"start\", what nbdkit-attach has made of its "
                        "arguments"));
  }
  std::string_view other = first_difference(attachment_.options(), given.value().options);
  co_return Json::object().set("other", other.empty() ? Json() : Json(other));
}

Task<Json> Keeper::call_upgrade(const RpcCall& call) {
  Result<UpgradeOptions> parsed = parse_upgrade_call(call.params);
  if (!parsed.ok()) co_await fail(std::move(parsed).error());
  if (!ready_) co_await fail(attach_error(ExitCode::busy, "the device is not attached yet"));
  const UpgradeOptions wanted = std::move(parsed).value();
  UpgradeReport report = co_await attachment_.upgrade(wanted);
  store_files();
  co_return to_json(report);
}

}  // namespace nbdkit
