// SPDX-License-Identifier: BSD-3-Clause
// Session: a connection as a plugin in C knows it, from before its device is opened until after it
// is closed.
#pragma once

#include <string>
#include <string_view>

#include "async/gate.h"
#include "block/context.h"
#include "plugin_host/interns.h"
#include "plugin_host/plugin_host.h"

namespace nbdkit {

// Made and destroyed on the connection's loop; workers read it meanwhile.
class Session final : private Gate::Interruptible {
 public:
  // What is passed outlives it.
  Session(PluginHost& host, Context& context, std::string_view plugin);

  PluginHost& host() const { return host_; }
  const Context& context() const { return context_; }
  Loop& loop() const { return context_.loop(); }
  // Who speaks in the log: "file.3".
  const std::string& who() const { return who_; }
  Interns& interns() { return interns_; }

 private:
  friend class PluginHost;

  void interrupt() noexcept override;

  PluginHost& host_;
  Context& context_;
  const std::string who_;
  Interns interns_;
  bool ended_;  // Under the host's mutex.
};

}  // namespace nbdkit
