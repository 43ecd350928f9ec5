// SPDX-License-Identifier: BSD-3-Clause
// How the keeper's user hears of the device: in the foreground at once, else through the command
// that is waiting.
#pragma once

#include <string>

#include "attach/keeper.h"
#include "attach/keeper_log.h"
#include "base/notify_socket.h"
#include "base/unique_fd.h"
#include "main/attach_name.h"

namespace nbdkit {

// "nbdkit-attach: what: why" on stderr.
void print_error(const Error& error);

class ForegroundReport final : public KeeperReport {
 public:
  // What is passed outlives this.
  ForegroundReport(const NotifySocket& manager, NameTurn& turn) : manager_(manager), turn_(turn) {}

  void ready(const std::string& device) override;
  void failed(const Error& error) override { print_error(error); }

 private:
  const NotifySocket& manager_;
  NameTurn& turn_;
};

// In the keeper that goes to the background.
class BackgroundReport final : public KeeperReport {
 public:
  // What is passed outlives this.
  BackgroundReport(KeeperLog& log, UniqueFd pipe, NameTurn& turn)
      : log_(log), pipe_(std::move(pipe)), turn_(turn) {}

  // Lets go of the terminal too.
  void ready(const std::string& device) override;
  void failed(const Error& error) override;
  int abandoned_fd() const override { return pipe_.get(); }

 private:
  void send(const std::string& message);

  KeeperLog& log_;
  UniqueFd pipe_;
  NameTurn& turn_;
};

// In the command: waits for the keeper's word and passes it on to the user.
ExitCode pass_report_on(UniqueFd pipe);

}  // namespace nbdkit
