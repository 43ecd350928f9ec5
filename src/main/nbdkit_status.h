// SPDX-License-Identifier: BSD-3-Clause
// ServiceStatus: keeps the service manager informed of what the server does, and that its main
// loop turns.
#pragma once

#include <string>

#include "async/loop.h"
#include "async/timers.h"
#include "async/watchdog.h"
#include "base/log.h"
#include "base/notify_socket.h"
#include "server/server.h"

namespace nbdkit {

// On the main loop; its thread only.
class ServiceStatus final : private ServerObserver, private Timer {
 public:
  // How often the number of connections is told, at the most.
  static constexpr Seconds kPause{1};

  // `name` is the plugin's. What is passed outlives this.
  ServiceStatus(Loop& loop, Server& server, const NotifySocket& manager, std::string name);
  ServiceStatus(const ServiceStatus&) = delete;
  ServiceStatus& operator=(const ServiceStatus&) = delete;
  ~ServiceStatus();

  void start();
  void begin_stop();

 private:
  void began(const ConnectionView&) override { changed(); }
  void ended(const ConnectionView&, ConnectionEnd) override { changed(); }
  void expired() noexcept override;
  void changed();

  Loop& loop_;
  Server& server_;
  const NotifySocket& manager_;
  const std::string name_;
  Watchdog watchdog_;
  bool stopping_ = false;
};

}  // namespace nbdkit
