// SPDX-License-Identifier: BSD-3-Clause
// Attachment: one device, from nothing to a node that is served, and back.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/fd_watch.h"
#include "async/gate.h"
#include "async/loop.h"
#include "attach/attachment_status.h"
#include "attach/detach.h"
#include "attach/keeper_log.h"
#include "attach/options.h"
#include "attach/orphans.h"
#include "attach/restart_policy.h"
#include "attach/run_folder.h"
#include "attach/server_process.h"
#include "handoff/handoff_client.h"
#include "netlink/nbd_control.h"

namespace nbdkit {

// One loop's; its thread only, and this never touches the device on it.
class Attachment final : private DetachPeer {
 public:
  // What is passed outlives this. `changed` is called whenever status() says something else.
  Attachment(Loop& loop, KeeperLog& log, const AttachOptions& options,
             std::function<void()> changed);
  Attachment(const Attachment&) = delete;
  Attachment& operator=(const Attachment&) = delete;
  ~Attachment();  // close() has ended.

  // Ends when the device can be used: size set, node there, partitions read, every connection
  // served. After an Error only close() is left to be called.
  Task<void> make();
  // make() ends soon, with operation_canceled.
  void interrupt();

  // Refuses when the device is in use (detach.h). After success only close() is left to be called.
  // Ends with who keeps the device from going away.
  Task<std::string> detach(DetachOptions options);

  // Ends whatever is there: the device, the server, the lock. May be called again.
  Task<void> close();

  // After make() has succeeded.
  std::uint32_t index() const { return *index_; }
  const RunFolder& folder() const { return *folder_; }
  AttachmentStatus status() const;

 private:
  Task<void> take_steps();
  Result<void> take_free_device();
  Result<void> take_lock();
  Task<void> start_server();
  Task<HandoffExport> start_and_ask();
  Result<void> check_export() const;
  Task<void> give_connections(std::vector<UniqueFd>& kernel_ends);
  bool will_be_new() const;
  ConnectRequest connect_request(const std::vector<UniqueFd>& kernel_ends) const;
  Task<void> connect();
  Task<void> connect_any();
  Task<void> give_up_strangers();
  Task<std::uint32_t> connect_once();
  Task<void> make_usable();
  Task<void> set_recheck();
  Task<void> scan();
  bool stopped() const;

  void cut_off();
  void server_ended();
  void take_events();

  // After the server has ended by itself: attachment_recovery.cc.
  void begin_recovery();
  Task<void> recover();
  Task<void> end_server();
  Task<void> bring_back();
  Task<void> replace_connections();
  Task<void> hand_over_connections();
  void drop_refused_connections();
  Result<void> check_same(const HandoffExport& successor) const;
  void give_up(std::string why);
  Task<void> wait_for_recovery();
  void lose();
  Task<void> fail_requests();
  Task<void> hold_lost();
  Task<bool> release_lost();

  void set_state(DeviceState state, std::string reason);
  bool served() const override { return is_served(resumed_) && server_->pid().has_value(); }
  void shut_down_connections() override;
  DetachTools tools();

  Loop& loop_;
  KeeperLog& log_;
  const AttachOptions& options_;
  std::function<void()> changed_;
  Gate gate_;
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
  HandoffExport export_;
  std::vector<UniqueFd> server_ends_;     // ours, of the connections
  std::vector<std::uint32_t> strangers_;  // devices that the kernel chose and others have locked
  std::string backend_;
  bool attached_ = false;
  bool closed_ = false;
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
  UniqueFd lost_node_;  // keeps a device that nothing can serve any more from vanishing
  std::unique_ptr<FdWatch> events_;
};

}  // namespace nbdkit
