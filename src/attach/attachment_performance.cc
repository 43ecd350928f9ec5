// SPDX-License-Identifier: BSD-3-Clause
// What the device's server does: asked when somebody wants to know, and now and then, so that there
// is something to compare with.
#include "attach/attachment.h"

namespace nbdkit {
namespace {

constexpr Seconds kLookEvery{5};

}  // namespace

Task<void> Attachment::look_at_performance() {
  const bool runs = !remote_ && server_->has_handoff() && server_->pid().has_value();
  return performance_.look(runs ? &server_->handoff() : nullptr, server_->pid().value_or(0));
}

void Attachment::watch_performance() {
  if (remote_ || !gate_.enter()) return;
  finish(look_now_and_then(), [this](Result<void>) { gate_.leave(); });
}

Task<void> Attachment::look_now_and_then() {
  for (;;) {
    co_await look_at_performance();
    co_await loop_.sleep(kLookEvery, gate_);
  }
}

}  // namespace nbdkit
