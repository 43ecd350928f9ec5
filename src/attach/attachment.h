// SPDX-License-Identifier: BSD-3-Clause
// Attachment: one device, from nothing to a node that is served, and back.
#pragma once

#include <cstdint>
#include <functional>
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
  void set_state(DeviceState state, std::string reason);
  bool served() const override { return served_ && server_.pid().has_value(); }
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
  ServerProcess server_;

  std::optional<RunFolder> folder_;
  std::optional<std::uint32_t> index_;
  UniqueFd lock_;
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
  bool served_ = true;  // when detaching began
  std::string reason_;
  unsigned dead_ = 0;  // connections
  std::unique_ptr<FdWatch> events_;
};

}  // namespace nbdkit
