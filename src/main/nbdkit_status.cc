// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_status.h"

#include <fmt/format.h>

#include <utility>

namespace nbdkit {

ServiceStatus::ServiceStatus(Loop& loop, Server& server, const NotifySocket& manager,
                             std::string name)
    : loop_(loop),
      server_(server),
      manager_(manager),
      name_(std::move(name)),
      watchdog_(loop, manager) {
  if (manager_) server_.observe(*this);
}

ServiceStatus::~ServiceStatus() { server_.unobserve(*this); }

void ServiceStatus::start() {
  watchdog_.start();
  if (manager_) expired();
}

void ServiceStatus::begin_stop() {
  stopping_ = true;
  manager_.mention("STOPPING=1\nSTATUS=waiting for clients to take their answers");
}

void ServiceStatus::changed() {
  if (!armed() && !stopping_) loop_.timers().arm(*this, loop_.now() + kPause);
}

void ServiceStatus::expired() noexcept {
  if (stopping_) return;
  std::size_t count = server_.connections();
  manager_.mention(
      fmt::format("STATUS=serving {}, {} connection{}", name_, count, count == 1 ? "" : "s"));
}

}  // namespace nbdkit
