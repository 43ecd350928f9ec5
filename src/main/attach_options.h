// SPDX-License-Identifier: BSD-3-Clause
// The command line of nbdkit-attach: its own options, and the server's, which it does not touch.
#pragma once

#include <cstdint>
#include <string>

#include "attach/options.h"
#include "base/result.h"

namespace nbdkit {

struct AttachCommand {
  enum class Action {
    attach,
    detach,
    upgrade,
    resize,
    list,
    status,
    watch,
    diagnose,
    check_swap,
    print
  };

  Action action = Action::attach;
  std::string text;             // print: the help or the version
  AttachOptions attach;         // attach
  std::uint32_t index = 0;      // detach, upgrade, resize, status, diagnose
  DetachOptions detach;         // detach
  UpgradeOptions upgrade;       // upgrade
  bool force = false;           // resize
  bool json = false;            // list, status, check_swap
  bool all = false;             // watch: every device, not the one of `index`
  Milliseconds interval{1000};  // watch
  std::string file;             // diagnose: where to; empty: stdout
};

// Errors have the exit code usage (netlink/exit_code.h).
Result<AttachCommand> parse_attach_command(int argc, char* const* argv);

}  // namespace nbdkit
