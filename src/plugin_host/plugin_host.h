// SPDX-License-Identifier: BSD-3-Clause
// PluginHost: what plugins in C can reach of the process that runs them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "base/log.h"
#include "base/parse.h"
#include "plugin_host/interns.h"

namespace nbdkit {

class Session;

// The program makes one before it loads a plugin and keeps it until the last layer is gone. The
// nbdkit_* functions find it by themselves, because threads that a plugin made bring nothing along.
class PluginHost {
 public:
  struct Hooks {
    // nbdkit_shutdown: end the server. Any thread.
    std::function<void()> shutdown;
    // --name.
    std::string name = "nbdkit";
    // -s: stdin and stdout are the client's.
    bool stdio_is_client = false;
  };

  PluginHost(Log& log, Hooks hooks);
  PluginHost(const PluginHost&) = delete;
  PluginHost& operator=(const PluginHost&) = delete;
  ~PluginHost();

  // The process's, or nullptr when there is none (any more).
  static PluginHost* current();

  Log& log() const { return log_; }
  const Hooks& hooks() const { return hooks_; }
  Interns& interns() { return interns_; }

  // Whether stdin and stdout may be used: only while the program starts.
  bool stdio_safe() const { return !hooks_.stdio_is_client && starting_.load(); }
  void started() { starting_.store(false); }

  // Any thread. The server ends: nobody in a plugin sleeps any longer.
  void stop();
  bool stopping() const;

  // For nbdkit_nanosleep. False when it ended early, because the server or the session did.
  // `session` may be null.
  bool sleep(Nanoseconds delay, const Session* session);

 private:
  friend class Session;

  Log& log_;
  const Hooks hooks_;
  Interns interns_;
  std::atomic<bool> starting_{true};
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
};

}  // namespace nbdkit
