// SPDX-License-Identifier: BSD-3-Clause
// Attachment: one device, from nothing to a node that is served, and back.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "async/fd_watch.h"
#include "async/gate.h"
#include "async/loop.h"
#include "attach/attachment_status.h"
#include "attach/connection_move.h"
#include "attach/detach.h"
#include "attach/keeper_log.h"
#include "attach/living_server.h"
#include "attach/options.h"
#include "attach/orphans.h"
#include "attach/performance.h"
#include "attach/queue_settings.h"
#include "attach/remote_source.h"
#include "attach/restart_policy.h"
#include "attach/run_folder.h"
#include "attach/saved_options.h"
#include "attach/scan_shield.h"
#include "attach/server_lock.h"
#include "attach/server_process.h"
#include "attach/suspects.h"
#include "handoff/handoff_client.h"
#include "netlink/nbd_control.h"

namespace nbdkit {

// How long requests waited during an upgrade.
struct UpgradeReport {
  Nanoseconds hand_over{0};  // the old server answered what it had received
  Nanoseconds activate{0};   // the new one opened its export
};

// One loop's; its thread only, and this never touches the device on it.
class Attachment final : private DetachPeer {
 public:
  // What a service manager has kept for us: saved_options.h, and kept memory.
  using StoredFiles = std::vector<UniqueFd>;

  // What is passed outlives this. `changed` is called whenever status() says something else.
  Attachment(Loop& loop, KeeperLog& log, AttachOptions options, StoredFiles stored,
             std::function<void()> changed);
  Attachment(const Attachment&) = delete;
  Attachment& operator=(const Attachment&) = delete;
  ~Attachment();  // close() has ended.

  // Ends when the device can be used: size set, node there, partitions read, every connection
  // served. After an Error only close() is left to be called. With AttachOptions::reattach a device
  // that is attached is adopted (attachment_adoption.cc); an Error has changed nothing of it then.
  Task<void> make();
  // make() ends soon, with operation_canceled.
  void interrupt();

  // Refuses when the device is in use (detach.h). After success only close() is left to be called.
  // Ends with who keeps the device from going away.
  Task<std::string> detach(DetachOptions options);

  // Another server in place of this one, while the device is in use (attachment_upgrade.cc). After
  // an Error the old one serves on; should it have ended meanwhile, it is started again. `wanted`
  // outlives the Task.
  Task<UpgradeReport> upgrade(const UpgradeOptions& wanted);

  // A device that was given up gets a server again; with `force` also when requests have failed
  // since (attachment_recovery.cc).
  Task<void> revive(bool force);

  // The device gets the size that its export has now, in bytes (attachment_resize.cc).
  Task<std::uint64_t> resize(bool may_shrink);

  // Ends whatever is there: the device, the server, the lock. May be called again.
  Task<void> close();
  // Instead of close(): the device and its server go on, for another keeper.
  Task<void> let_go();

  // After make() has succeeded.
  std::uint32_t index() const { return *index_; }
  const RunFolder& folder() const { return *folder_; }
  AttachmentStatus status() const;
  // Asks the server; ends soon, whether it answers or not.
  Task<void> look_at_performance();
  // As of the last look. Without a server of ours nobody knows.
  const PerformanceWatch* performance() const { return remote_ ? nullptr : &performance_; }
  SwapMode swap() const { return options_.swap; }
  const AttachOptions& options() const { return options_; }
  // What another keeper needs to go on, beside the status.
  Json handover() const;
  // Whether handover() tells of a server that has been found to be the right one.
  bool is_settled() const { return !recovering_ && change_ == Change::none; }
  // What of it is in files of its own and could not be written when it changed.
  Result<void> leave_missing_files();
  // What is worth keeping by somebody who outlives both us and the server: see StoredFiles.
  std::vector<int> files_to_store() const;

 private:
  // What is left of a server when it has died.
  struct Traces {
    std::string door;  // a file in the folder, as long as that has no lasting name
    UniqueFd ledger;
  };
  // What a server is started from.
  struct Launch {
    AttachOptions options;
    UniqueFd program;
    UniqueFd start;  // saved_options.h
  };
  struct ServerStart {
    const AttachOptions& options;
    int program;
    int start;
    const ServerLock& lock;
    std::vector<MarkedRequest> marked;
  };
  // A server that is being made ready.
  struct Successor {
    Successor(Launch what, ServerLock own, std::unique_ptr<ServerProcess> started)
        : launch(std::move(what)), lock(std::move(own)), process(std::move(started)) {}

    Launch launch;
    ServerLock lock;
    std::unique_ptr<ServerProcess> process;
    Traces traces;
  };

  Task<void> take_steps();
  Task<void> open_control(const Modprobe* modprobe);
  Result<void> take_free_device();
  Result<void> take_lock();
  Task<void> start_server();
  Result<void> start_process(ServerProcess& server, const ServerStart& from, Traces& traces);
  void name_door();
  Result<void> start_new();
  Task<HandoffExport> ask_server();
  Result<void> check_export() const;
  std::uint64_t device_block_size() const;
  Task<void> give_connections(std::vector<UniqueFd>& kernel_ends);
  Task<void> serve_connections(std::size_t first);
  bool will_be_new() const;
  ConnectRequest connect_request(const std::vector<UniqueFd>& kernel_ends) const;
  Result<void> listen_to_events();
  Task<void> connect();
  Task<void> connect_any();
  Task<void> give_up_strangers();
  Task<std::uint32_t> connect_once();
  Task<void> make_usable();
  Task<void> set_recheck();
  QueueNeeds queue_needs() const;
  Task<void> set_device_queue();
  Result<void> leave_files();
  bool stopped() const;
  bool over() const { return closed_ || interrupted_; }

  void cut_off();
  void server_ended();
  void take_events();

  // attachment_scan.cc
  std::string new_backend() const;
  Task<void> scan();
  Task<void> scan_again();
  Task<void> announce();
  Task<void> let_udev_look();
  Task<void> settle();
  Result<void> raise_shield();
  Task<void> drop_shield();

  // After the server has ended by itself: attachment_recovery.cc.
  void begin_recovery(std::string why);
  Task<void> recover();
  Task<void> end_server();
  Result<std::vector<pid_t>> end_processes(pid_t spared) const;
  void look_for_suspects();
  Task<void> bring_back();
  Task<void> replace_connections();
  Task<void> hand_over_connections();
  Task<void> give_to_kernel(const std::vector<UniqueFd>& sockets);
  Result<void> check_same(const HandoffExport& successor) const;
  void give_up(std::string why);
  Result<void> check_dead_timeout(bool force) const;
  Task<void> wait_for_recovery();
  void lose(std::string_view what);
  Task<void> fail_requests();
  Task<void> hold_lost();
  Task<bool> release_lost();

  // While the server lives: attachment_connections.cc.
  bool replaces_connections() const;
  void watch_connections();
  void drop_refused_connections();
  void connections_died(unsigned count);
  void tell_of_dead(std::string why);
  void begin_replacing();
  Task<void> replace_dead_connections();
  void drop_unserved(const std::vector<HandoffListed>& listed);
  Task<void> await_finished();

  // Another server while the old one runs: attachment_upgrade.cc.
  Result<void> check_may_change(std::string_view what) const;
  Task<void> end_change(const std::string& error);
  Result<void> check_may_upgrade(const UpgradeOptions& wanted) const;
  Result<Launch> launch_of(const UpgradeOptions& wanted) const;
  Task<UpgradeReport> replace_server(const UpgradeOptions& wanted);
  Task<void> prepare_successor(const UpgradeOptions& wanted);
  Task<UpgradeReport> move_to_successor(const UpgradeOptions& wanted);
  Result<void> check_successor(const HandoffExport& info, const UpgradeOptions& wanted) const;
  Task<void> end_successor();
  void take_successor(HandoffExport info, bool changes_data);
  Task<void> retire(std::unique_ptr<ServerProcess> server, ServerLock lock);
  void go_back_to_previous();
  void server_ended_in_change();
  void hang_up_successor();
  Task<void> wait_for_change();

  // attachment_spare.cc
  void keep_spare();
  Task<void> make_spare();
  bool spare_is_usable() const;
  void take_spare();
  Task<void> end_spare();

  // attachment_resize.cc
  Task<std::uint64_t> follow_size(bool may_shrink);
  Result<void> check_size(std::uint64_t size, bool may_shrink) const;
  Task<void> reopen(std::uint64_t size);
  Task<void> set_kernel_size(std::uint64_t size);
  void watch_size();
  Task<void> look_at_size();

  // attachment_performance.cc
  void watch_performance();
  Task<void> look_now_and_then();

  // Of a device that another keeper has attached: attachment_adoption.cc.
  bool is_to_adopt() const;
  Task<void> adopt();
  Task<void> take_over();
  Result<Json> read_handover() const;
  Result<void> understand(const Json& state);
  Result<void> read_options(const Json& handover, const LivingServer* server);
  Result<void> adopt_server(const Json& handover, LivingServer server);
  void adopt_descriptors(const Json& handover, const LivingServer& server);
  UniqueFd find_stored(const HeldFile& file);
  Result<void> check_can_start(const Json& handover) const;
  Task<void> start_successor(const Json& handover);

  // Of the export of another server, without one of ours: attachment_remote.cc.
  Task<void> start_remote();
  Task<void> connect_to_remote(unsigned count, std::vector<UniqueFd>& kernel_ends);
  void remote_died(unsigned connections);
  void begin_reconnecting();
  void tell_of_remote();
  Task<void> reconnect();
  Task<void> replace_dead(unsigned count);
  Task<void> adopt_remote();

  void set_state(DeviceState state, std::string reason);
  bool served() const override {
    return is_served(resumed_) && (remote_ != nullptr || server_->pid().has_value());
  }
  void shut_down_connections() override;
  DetachTools tools();

  Loop& loop_;
  KeeperLog& log_;
  AttachOptions options_;
  StoredFiles stored_;
  std::function<void()> changed_;
  Gate gate_;
  PerformanceWatch performance_{loop_, gate_};
  Sysfs sysfs_;
  NbdControl control_;
  bool control_open_ = false;
  Helper node_;  // for calls that touch the device
  std::unique_ptr<ServerProcess> server_;

  std::optional<RunFolder> folder_;
  std::optional<std::uint32_t> index_;
  UniqueFd lock_;
  UniqueFd program_;      // the server's
  UniqueFd kept_memory_;  // of plugins whose data outlives the server
  UniqueFd start_;        // saved_options.h
  std::optional<ServerLock> server_lock_;
  Traces traces_;
  Suspects suspects_;
  std::string missing_;            // parameters that a successor would need, in an adopted device
  std::map<int, UniqueFd> named_;  // descriptors of the plugin's parameters, in an adopted device
  HandoffExport export_;           // what the device promises
  HandoffExport served_;           // what the server has, which may be more
  std::vector<UniqueFd> server_ends_;     // ours, of the connections
  std::optional<ScanShield> shield_;      // in the place of the server, until nobody looks
  std::unique_ptr<RemoteSource> remote_;  // in the place of a server of ours
  std::vector<UniqueFd> remote_sockets_;  // which the kernel is to get
  std::vector<std::uint32_t> strangers_;  // devices that the kernel chose and others have locked
  std::string backend_;
  bool files_missing_ = false;
  bool attached_ = false;
  bool closed_ = false;
  bool spared_ = false;  // whatever ends, the device and its server do not
  bool made_ = false;
  bool interrupted_ = false;
  DeviceState state_ = DeviceState::connected;
  DeviceState resumed_ = DeviceState::connected;  // when detaching is refused
  std::string reason_;
  unsigned dead_ = 0;  // connections
  bool recovering_ = false;
  bool ending_ = false;  // detaching a device that no server is waited for
  Orphans orphans_;
  RestartPolicy restart_policy_;
  Nanoseconds served_since_{0};
  std::uint64_t restarts_ = 0;
  std::string last_error_;
  // Of the kernel's log, from where on the driver must not have failed requests.
  std::optional<std::uint64_t> log_begin_;
  enum class Change { none, preparing, moving } change_ = Change::none;  // of server or size
  std::unique_ptr<Successor> successor_;
  std::shared_ptr<Successor> spare_;  // also whoever makes it ready
  bool spare_ready_ = false;
  std::optional<Launch> previous_;  // until previous_until_
  Nanoseconds previous_until_{0};
  std::uint64_t upgrades_ = 0;
  UniqueFd lost_node_;  // keeps a device that nothing can serve any more from vanishing
  std::unique_ptr<FdWatch> events_;
};

}  // namespace nbdkit
