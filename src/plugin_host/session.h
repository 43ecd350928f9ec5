// SPDX-License-Identifier: BSD-3-Clause
// Session: a connection as a plugin in C knows it, from before its device is opened until after it
// is closed.
#pragma once

#include <atomic>
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
  // What the plugin is told, and that it has asked.
  bool answer_tls() {
    asked_for_tls_ = true;
    return context_.tls;
  }
  // The plugin knows that there is no TLS: if it forbids something, that may be why.
  bool missed_tls() const { return asked_for_tls_ && !context_.tls; }

 private:
  friend class PluginHost;

  void interrupt() noexcept override;

  PluginHost& host_;
  Context& context_;
  const std::string who_;
  Interns interns_;
  std::atomic<bool> asked_for_tls_{false};  // Threads of the plugin ask, too.
  bool ended_;                              // Under the host's mutex.
};

}  // namespace nbdkit
