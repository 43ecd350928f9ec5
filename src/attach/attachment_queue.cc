// SPDX-License-Identifier: BSD-3-Clause
// What the kernel's side of a device is set to in sysfs, once, when it is attached.
#include "attach/attachment.h"
#include "attach/queue_settings.h"
#include "proto/handshake.h"

namespace nbdkit {
namespace {

constexpr Seconds kSetMax{10};    // a knob in sysfs
constexpr Seconds kQueueMax{60};  // several, each of which waits for requests under way

// With one connection the driver only looks at this interval whether a socket was replaced, so the
// stall after a crash is this long. With several it kills the socket of a request that is older.
constexpr Milliseconds kRecheckOfOne{1'000};
constexpr Milliseconds kRecheckOfSeveral{30'000};

}  // namespace

Task<void> Attachment::set_recheck() {
  // With a request timeout the driver uses its timer for that.
  if (options_.request_timeout > Seconds(0)) co_return;
  Milliseconds usual = options_.connections > 1 ? kRecheckOfSeveral : kRecheckOfOne;
  Milliseconds interval = options_.recheck.value_or(usual);
  auto set = [sysfs = sysfs_, index = *index_, interval] {
    return sysfs.set_io_timeout(index, interval);
  };
  Result<void> done = co_await node_.call(kSetMax, std::move(set)).as_result();
  if (!done.ok()) log_.warning("", "--recheck: {}", done.error().message());
}

QueueNeeds Attachment::queue_needs() const {
  QueueNeeds needs;
  needs.block_size = export_.block_size;
  needs.device_block_size = device_block_size();
  needs.rotational = (export_.transmission_flags & transmission_flag::kRotational) != 0;
  needs.flush = (export_.transmission_flags & transmission_flag::kFlush) != 0;
  needs.swap = options_.swap != SwapMode::off;
  needs.chosen = options_.queue;
  return needs;
}

Task<void> Attachment::set_device_queue() {
  auto set = [sysfs = sysfs_, index = *index_, needs = queue_needs()] {
    return set_queue(sysfs, index, needs);
  };
  Result<std::vector<std::string>> failures =
      co_await node_.call(kQueueMax, std::move(set)).as_result();
  const bool late = !failures.ok() && failures.error().code == std::errc::timed_out;
  if (late && options_.queue.empty() && !stopped()) {
    log_.warning("", "the queue of /dev/nbd{} is not set: requests take too long", *index_);
    co_return;
  }
  if (!failures.ok()) co_await fail(std::move(failures).error());
  for (const std::string& failure : failures.value()) log_.warning("", "{}", failure);
}

}  // namespace nbdkit
