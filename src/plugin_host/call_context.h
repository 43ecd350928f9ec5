// SPDX-License-Identifier: BSD-3-Clause
// CallContext: the call into a plugin that this thread is in the middle of. The nbdkit_* functions
// have no argument that says who calls, so they ask here.
#pragma once

#include <cerrno>
#include <string>
#include <string_view>

#include "base/result.h"
#include "plugin_host/plugin_host.h"
#include "plugin_host/session.h"

namespace nbdkit {

// What happens to a text that the plugin gives to nbdkit_error.
enum class Messages {
  log,   // it is logged
  hold,  // the last one is logged only when failure_with_text() does not take it: an error that
         // ends the start of the program, or what a client has asked for, is told once
};

// On the stack of the thread that calls into the plugin, around one or more calls. They nest.
class CallContext {
 public:
  // `session` is null outside of a connection. Everything outlives the CallContext.
  CallContext(PluginHost& host, Session* session, Messages messages, bool errno_is_preserved);
  CallContext(const CallContext&) = delete;
  CallContext& operator=(const CallContext&) = delete;
  ~CallContext();

  // The calling thread's; nullptr in a thread that a plugin made itself.
  static CallContext* current();

  // Calls a function of the plugin.
  template <typename R, typename... Parameters, typename... Args>
  R call(R (*callback)(Parameters...), Args... args) {
    error_ = 0;
    errno = 0;
    return callback(args...);
  }

  // Why the last call() failed. To be asked at once after it, while errno is still the plugin's.
  Error failure() const;
  // The same with the plugin's own words; with `what` when it said nothing.
  Error failure_with_text(std::string_view what);

  PluginHost& host() const { return host_; }
  Session* session() const { return session_; }
  // nbdkit_set_error. 0 is none.
  void set_error(int number) { error_ = number; }
  // nbdkit_error.
  void report(std::string text);

 private:
  void log_error(std::string_view text) const;
  static void at_exit();

  PluginHost& host_;
  Session* const session_;
  const Messages messages_;
  const bool errno_is_preserved_;
  int error_ = 0;
  std::string last_message_;
  CallContext* const outer_;
};

}  // namespace nbdkit
