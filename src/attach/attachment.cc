// SPDX-License-Identifier: BSD-3-Clause
#include "attach/attachment.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "attach/dead_timeout.h"
#include "attach/privilege.h"
#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kSectorSize = 512;
constexpr Seconds kGoneMax{10};
constexpr Seconds kPatience{2};  // with threads inside the kernel, at the end
constexpr Milliseconds kPause{20};
constexpr Seconds kStrangerMax{2};  // how long another keeper may have our device by mistake
constexpr std::size_t kStrangersMax = 16;

}  // namespace

Attachment::Attachment(Loop& loop, KeeperLog& log, AttachOptions options, StoredFiles stored,
                       std::function<void()> changed)
    : loop_(loop),
      log_(log),
      options_(std::move(options)),
      stored_(std::move(stored)),
      changed_(std::move(changed)),
      gate_(loop),
      control_(loop, log, sysfs_),
      node_(loop, "nbd-node"),
      server_(std::make_unique<ServerProcess>(loop, log)),
      index_(options_.index) {}

Attachment::~Attachment() = default;

Task<void> Attachment::make() {
  if (is_to_adopt()) {
    co_await adopt();
    co_return;
  }
  stored_.clear();  // Of a device that has gone.
  Result<void> made = co_await take_steps().as_result();
  if (made.ok() && !interrupted_ && server_->end().empty()) {
    made_ = true;
    served_since_ = loop_.now();
    server_->is_ready();
    watch_connections();
    watch_size();
    watch_performance();
    keep_spare();
    co_return;
  }
  if (interrupted_) co_await fail(Error(std::errc::operation_canceled, "interrupted"));
  Error error(std::errc::connection_reset, "the server ended");
  if (!made.ok()) error = std::move(made).error();
  if (!server_->end().empty()) co_await server_->explain(std::move(error));
  co_await fail(std::move(error));
}

Task<void> Attachment::take_steps() {
  Modprobe modprobe;
  co_await open_control(&modprobe);
  Result<RunFolder> folder = RunFolder::open();
  if (!folder.ok()) co_await fail(std::move(folder).error());
  folder_.emplace(std::move(folder).value());
  if (index_) {
    Result<void> free = take_free_device();
    if (!free.ok()) co_await fail(std::move(free).error());
  }
  if (RemoteSource::is_meant(options_)) {
    co_await start_remote();
  } else {
    co_await start_server();
  }
  Result<void> fits = check_export();
  if (!fits.ok()) co_await fail(std::move(fits).error());
  co_await connect();
  co_await make_usable();
}

Task<void> Attachment::open_control(const Modprobe* modprobe) {
  Result<void> permitted = check_may_attach();
  if (!permitted.ok()) co_await fail(std::move(permitted).error());
  control_open_ = true;
  co_await control_.open(modprobe);
}

Result<void> Attachment::take_free_device() {
  NBDKIT_TRY(take_lock());
  Result<NbdDevice> device = sysfs_.device(*index_);
  if (!device.ok() || !device.value().attached()) return {};
  // What its keeper has left behind is for the next one.
  folder_->remove_lock(*index_);
  lock_.reset();
  std::string backend = device.value().backend;
  return attach_error(ExitCode::busy,
                      fmt::format("{} is in use by process {}{}; detach it first or take another "
                                  "device (- picks a free one)",
                                  device.value().node(), *device.value().pid,
                                  backend.empty() ? backend : " (backend " + backend + ")"));
}

Result<void> Attachment::take_lock() {
  Result<UniqueFd> lock = folder_->lock(*index_);
  if (!lock.ok()) return std::move(lock).error();
  lock_ = std::move(lock).value();
  return {};
}

std::uint64_t Attachment::device_block_size() const {
  return std::max<std::uint64_t>(kSectorSize, export_.block_size.minimum);
}

Result<void> Attachment::check_export() const {
  std::uint64_t block = device_block_size();
  auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  if (block > page) {
    return attach_error(
        ExitCode::invalid_value,
        fmt::format("the export wants requests of at least {} bytes, but blocks of this kernel's "
                    "devices have at most {}; --filter=blocksize can help",
                    block, page));
  }
  if (export_.size == 0 || export_.size % block != 0) {
    return attach_error(ExitCode::invalid_value,
                        fmt::format("the export has {} bytes, and a device needs a multiple of {} "
                                    "that is not 0; change its size",
                                    export_.size, block));
  }
  if (options_.connections > 1 && !export_.multi_conn) {
    return attach_error(ExitCode::not_supported,
                        fmt::format("--connections={}: this plugin, or a filter, does not allow "
                                    "more than one connection to the same data",
                                    options_.connections));
  }
  return {};
}

// A device that the kernel makes for us goes with its attachment, and with it the limits that it
// would hand on to its next user.
bool Attachment::will_be_new() const {
  if (index_) return !sysfs_.device(*index_).ok();
  std::vector<NbdDevice> devices = sysfs_.devices(false);
  return std::all_of(devices.begin(), devices.end(),
                     [](const NbdDevice& device) { return device.attached(); });
}

ConnectRequest Attachment::connect_request(const std::vector<UniqueFd>& kernel_ends) const {
  ConnectRequest request;
  request.index = index_;
  request.size = export_.size;
  request.block_size = device_block_size();
  request.server_flags = export_.transmission_flags;
  request.client_flags.destroy_on_disconnect = will_be_new();
  request.request_timeout = options_.request_timeout;
  request.dead_timeout = options_.dead_timeout;
  request.backend = backend_;
  for (const UniqueFd& end : kernel_ends) request.sockets.push_back(end.get());
  return request;
}

Result<void> Attachment::listen_to_events() {
  events_ = std::make_unique<FdWatch>(loop_, control_.events_fd(), [this] { take_events(); });
  return events_->start(EPOLLIN);
}

Task<void> Attachment::connect() {
  backend_ = new_backend();
  log_begin_ = end_of_kernel_log();
  Result<void> listening = listen_to_events();
  if (!listening.ok()) co_await fail(std::move(listening).error());
  if (index_) {
    co_await connect_once();
    attached_ = true;
    co_return;
  }
  Result<void> done = co_await connect_any().as_result();
  co_await give_up_strangers();
  if (!done.ok()) co_await fail(std::move(done).error());
}

// The kernel may choose a device that another keeper has locked and has not attached yet. Such a
// one is kept until we have our own, or the kernel would choose it again.
Task<void> Attachment::connect_any() {
  for (;;) {
    std::uint32_t chosen = co_await connect_once();
    index_ = chosen;
    Result<void> locked = take_lock();
    if (locked.ok()) {
      attached_ = true;
      co_return;
    }
    index_.reset();
    shield_.reset();
    server_ends_.clear();
    strangers_.push_back(chosen);
    bool reserved = locked.error().code == std::errc::device_or_resource_busy;
    if (!reserved || strangers_.size() >= kStrangersMax) {
      co_await fail(std::move(locked).error());
    }
    if (stopped()) co_await fail(std::errc::operation_canceled);
    log_.debug("", "/dev/nbd{} is free, but reserved; another one is tried", chosen);
  }
}

Task<void> Attachment::give_up_strangers() {
  while (!strangers_.empty()) {
    Result<void> done = co_await control_.disconnect(strangers_.back()).as_result();
    if (!done.ok()) log_.error("", "{}", done.error().message());
    strangers_.pop_back();
  }
}

Task<std::uint32_t> Attachment::connect_once() {
  // The driver has its own references. Ours would hide from the server that the device has gone.
  std::vector<UniqueFd> kernel_ends;
  if (remote_) {
    co_await connect_to_remote(options_.connections, kernel_ends);
  } else {
    co_await give_connections(kernel_ends);
  }
  ConnectRequest request = connect_request(kernel_ends);
  Nanoseconds until = loop_.now() + kStrangerMax;
  for (;;) {
    Result<std::uint32_t> index = co_await control_.connect(request).as_result();
    if (index.ok()) co_return index.value();
    // It was free when it was locked: another keeper may have been given it for a moment.
    bool passing = index_ && index.error().code == std::errc::device_or_resource_busy &&
                   sysfs_.device(*index_).ok() && sysfs_.device(*index_).value().attached();
    if (!passing || stopped() || loop_.now() >= until) co_await fail(std::move(index).error());
    co_await loop_.sleep(kPause, gate_);
  }
}

Task<void> Attachment::make_usable() {
  if (!remote_) name_door();
  Result<void> left = leave_files();
  if (!left.ok()) co_await fail(std::move(left).error());
  co_await set_recheck();
  co_await set_device_queue();
  if (stopped()) co_await fail(std::errc::operation_canceled);
  co_await scan();
  co_await let_udev_look();
  if (shield_) co_await drop_shield();
  if (state_after_server_end(export_.survives, export_.read_only()) != DeviceState::lost) co_return;
  if (remote_) {
    log_.warning("",
                 "/dev/nbd{} fails when a connection is lost, because what is not flushed may be "
                 "lost with it; of a server that keeps all that it has answered say "
                 "keeps-unflushed=true, for any other attach the plugin: nbd uri=...",
                 *index_);
    co_return;
  }
  log_.warning("",
               "what is written to /dev/nbd{} is in the server's memory: it is gone when the "
               "server ends, and then the device fails",
               *index_);
}

bool Attachment::stopped() const { return interrupted_ || !server_->end().empty(); }

void Attachment::interrupt() {
  if (made_ || interrupted_) return;
  interrupted_ = true;
  server_->hang_up();
  if (remote_) remote_->hang_up();
  if (!spared_) cut_off();
}

// Whatever waits for the device gets an error instead of waiting for a server to come.
void Attachment::cut_off() {
  shut_down_connections();
  if (!attached_ || !gate_.enter()) return;
  finish(control_.disconnect(*index_), [this](Result<void> done) {
    if (!done.ok()) log_.debug("", "{}", done.error().message());
    gate_.leave();
  });
}

void Attachment::server_ended() {
  if (!made_ && spared_) return;  // adopt() looks.
  if (spare_ && server_->end().empty() && !spare_->process->end().empty()) {
    return log_.error("", "/dev/nbd{}: the spare server {}", *index_, spare_->process->end());
  }
  if (!made_) return cut_off();
  if (change_ != Change::none) return server_ended_in_change();
  // Whoever brings a server back sees by itself that this one has ended.
  if (closed_ || recovering_ || !attached_) return;
  // Our own descriptors of the dead server's sockets keep the driver from noticing.
  shut_down_connections();
  dead_ = options_.connections;
  if (state_after_server_end(export_.survives, export_.read_only()) == DeviceState::lost) {
    last_error_ = fmt::format("the server {}", server_->end());
    return lose("answered writes were in its memory and are gone");
  }
  go_back_to_previous();
  begin_recovery(fmt::format("the server {}", server_->end()));
}

void Attachment::take_events() {
  Result<LinkEvents> events = control_.take_events();
  if (!events.ok()) return log_.debug("", "{}", events.error().message());
  // Sockets that we shut down ourselves tell nobody anything.
  if (!index_ || closed_ || stopped()) return;
  auto dead = std::count(events.value().dead.begin(), events.value().dead.end(), *index_);
  if (dead == 0) return;
  if (remote_) {
    if (made_ && !ending_) remote_died(static_cast<unsigned>(dead));
    return;
  }
  if (!recovering_ && is_served(state_)) connections_died(static_cast<unsigned>(dead));
}

void Attachment::set_state(DeviceState state, std::string reason) {
  if (state_ == DeviceState::detaching && state != DeviceState::detaching) {
    if (!may_follow(resumed_, state)) return;
    resumed_ = state;
    reason_ = std::move(reason);
    return;
  }
  if (!may_follow(state_, state)) return;
  state_ = state;
  reason_ = std::move(reason);
  if (!spared_) changed_();
}

void Attachment::shut_down_connections() {
  for (const UniqueFd& end : server_ends_) ::shutdown(end.get(), SHUT_RDWR);
}

DetachTools Attachment::tools() {
  return {loop_, gate_, log_, control_, sysfs_, node_, KernelFiles()};
}

Task<std::string> Attachment::detach(DetachOptions options) {
  if (state_ == DeviceState::detaching) {
    co_await fail(
        attach_error(ExitCode::busy, fmt::format("/dev/nbd{} is being detached already", *index_)));
  }
  co_await wait_for_change();
  if (!options.force) co_await wait_for_recovery();
  resumed_ = state_;
  set_state(DeviceState::detaching, reason_);
  bool gone = false;
  if (resumed_ == DeviceState::lost) gone = co_await release_lost();
  DetachTools tools = this->tools();
  Result<std::string> done = std::string();
  ending_ = options.force || !served();
  if (!gone) done = co_await detach_device(tools, this, *index_, options).as_result();
  if (!done.ok()) {
    ending_ = false;
    // The server may have ended, or another come, meanwhile.
    state_ = resumed_;
    changed_();
    if (state_ == DeviceState::lost) co_await hold_lost();
    co_await fail(std::move(done).error());
  }
  attached_ = false;
  co_return std::move(done).value();
}

Task<void> Attachment::close() {
  if (std::exchange(closed_, true)) co_return;
  if (successor_) hang_up_successor();
  if (remote_) remote_->hang_up();
  if (spare_) spare_->process->hang_up();
  co_await wait_for_change();
  if (lost_node_) co_await release_lost();
  if (attached_ && !spared_) {
    shut_down_connections();
    Result<void> done = co_await control_.disconnect(*index_).as_result();
    if (!done.ok()) log_.error("", "{}", done.error().message());
    DetachTools tools = this->tools();
    bool gone = co_await wait_until_gone(tools, *index_, kGoneMax);
    if (!gone) log_.error("", "/dev/nbd{} is still held open by somebody", *index_);
    attached_ = false;
  }
  // One that is only about to be given the device is of no use to the next keeper.
  if (spared_ && !recovering_) server_->let_go();
  co_await server_->stop(interrupted_ || recovering_);
  events_.reset();
  shield_.reset();
  co_await gate_.drained();
  co_await end_spare();
  if (folder_ && !traces_.door.empty()) folder_->remove_file(traces_.door);
  if (folder_ && lock_) {
    if (!spared_) folder_->remove_state(*index_);
    folder_->remove_lock(*index_);
    lock_.reset();
  }
  bool node_closed = co_await node_.close(kPatience);
  bool control_closed = true;
  if (control_open_) {
    bool closed = co_await control_.close(kPatience);
    control_closed = closed;
  }
  if (!node_closed || !control_closed) log_.error("", "a call into the kernel has not come back");
}

}  // namespace nbdkit
