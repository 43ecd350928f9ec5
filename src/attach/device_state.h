// SPDX-License-Identifier: BSD-3-Clause
// DeviceState: how an attached device is doing, and which changes make sense.
#pragma once

#include <string_view>

#include "block/properties.h"

namespace nbdkit {

enum class DeviceState {
  connected,  // every connection is served
  degraded,   // some connection has died, others serve
  waiting,    // no server, requests wait for the next one
  failed,     // no server and none will come by itself: requests wait, then fail
  lost,       // the server has gone and answered writes went with it
  detaching,
  unmanaged,  // attached by another program, or its keeper is gone
};

std::string_view state_name(DeviceState state);

// Whether a server answers, so that what is cached can be written back.
constexpr bool is_served(DeviceState state) {
  return state == DeviceState::connected || state == DeviceState::degraded;
}

// What becomes of a device whose server has ended by itself. `read_only`: nothing was written that
// could be gone.
constexpr DeviceState state_after_server_end(Survives survives, bool read_only) {
  // `flushed` is what cannot be written through (handoff's "peer":"kernel").
  bool data_gone = survives != Survives::durable && !read_only;
  return data_gone ? DeviceState::lost : DeviceState::waiting;
}

// Whether one may follow the other. Any state may become detaching, and detaching the state before
// when it was refused.
constexpr bool may_follow(DeviceState from, DeviceState to) {
  if (from == to || from == DeviceState::detaching || to == DeviceState::detaching) return true;
  switch (from) {
    case DeviceState::connected:
    case DeviceState::degraded:
      return to != DeviceState::unmanaged;
    case DeviceState::waiting:
      return to != DeviceState::degraded && to != DeviceState::unmanaged;
    case DeviceState::failed:
      return to == DeviceState::waiting || to == DeviceState::connected;
    case DeviceState::lost:  // For ever: what was there cannot come back.
    case DeviceState::unmanaged:
    case DeviceState::detaching:
      return false;
  }
  return false;
}

}  // namespace nbdkit
