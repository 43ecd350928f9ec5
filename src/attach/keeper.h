// SPDX-License-Identifier: BSD-3-Clause
// Keeper: the process that holds one attached device from the first step to the last.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "async/fd_watch.h"
#include "async/gate.h"
#include "async/runtime.h"
#include "async/watchdog.h"
#include "attach/attachment.h"
#include "attach/control_server.h"
#include "attach/keeper_log.h"
#include "attach/metrics_server.h"
#include "attach/options.h"
#include "base/notify_socket.h"
#include "base/unique_fd.h"
#include "netlink/exit_code.h"

namespace nbdkit {

// How the user hears of the device, or of why there is none.
class KeeperReport {
 public:
  // `device` is the node.
  virtual void ready(const std::string& device) = 0;
  virtual void failed(const Error& error) = 0;
  // Readable, or hung up, when nobody waits for the report any more; -1: somebody always does.
  virtual int abandoned_fd() const { return -1; }

 protected:
  ~KeeperReport() = default;
};

// Made and run by one thread. No other thread may exist before: SIGTERM, SIGINT and
// SIGHUP are taken over.
class Keeper final : private ControlHandler {
 public:
  // What is passed outlives this.
  Keeper(const AttachOptions& options, Attachment::StoredFiles stored, KeeperLog& log,
         KeeperReport& report, const NotifySocket& manager);
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;
  ~Keeper();

  // Attaches or adopts, reports, and keeps the device until it is detached. The signals detach it
  // too, but never one that is in use: that is kept, or, when a service manager ends a keeper that
  // was told to adopt (AttachOptions::reattach), left to the next one.
  ExitCode run();

 private:
  Result<void> guard(SwapMode swap);
  Result<void> fix_workers();
  Task<void> live();
  Task<void> begin();
  Task<std::string> detach(DetachOptions options);
  Task<Json> detach_lazily();
  Task<void> detach_when_free();
  AttachmentStatus status() const;
  // With what the server says.
  Task<AttachmentStatus> whole_status();
  Task<std::string> metrics();
  Result<void> open_metrics();
  void start_metrics();
  void notice_error();
  Result<void> watch_signals();
  void watch_user();
  void take_signal();
  void refused(const Error& error, bool may_leave);
  Task<void> leave();
  void store_files() const;
  void write_state();
  Result<void> write_files();
  void write_later();
  Task<void> write_when_possible();
  void tell_manager(std::string_view notice) const;

  bool knows(std::string_view method) const override;
  Task<Json> call(const RpcCall& call) override;
  Task<Json> call_status();
  Task<Json> call_metrics();
  Task<Json> call_detach(const RpcCall& call);
  Task<Json> call_upgrade(const RpcCall& call);
  Task<Json> call_resize(const RpcCall& call);
  Task<Json> call_reattach(const RpcCall& call);
  Task<Json> call_compare(const RpcCall& call);

  const bool reattaches_;
  SwapMode guarded_ = SwapMode::off;
  Guards guards_;
  KeeperLog& log_;
  KeeperReport& report_;
  const NotifySocket& manager_;
  UniqueFd signals_;
  Runtime runtime_;
  Loop& loop_;
  Watchdog watchdog_;
  Attachment attachment_;
  ControlServer control_;
  MetricsServer metrics_;
  Gate kept_;   // Left when the device is detached.
  Gate calls_;  // Detaching because of a signal.
  std::unique_ptr<FdWatch> signals_watch_;
  std::unique_ptr<FdWatch> user_watch_;
  bool ready_ = false;
  std::string noticed_;                        // errors and restarts, as of the last change
  std::optional<std::int64_t> last_error_at_;  // seconds since 1970
  bool unwritten_ = false;                     // what would be said to the next keeper
  bool writes_later_ = false;                  // write_when_possible() goes on
  bool lazy_ = false;                          // detach_when_free() goes on
  ExitCode exit_ = ExitCode::ok;
};

}  // namespace nbdkit
