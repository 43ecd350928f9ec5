// SPDX-License-Identifier: BSD-3-Clause
#include "attach/detach.h"

#include <fmt/format.h>

#include <algorithm>

#include "attach/device_node.h"
#include "attach/udev.h"
#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

constexpr Seconds kSettleMax{5};
constexpr Seconds kPassingMax{3};  // how long udev may look at the device
constexpr Milliseconds kPause{20};
constexpr Seconds kClaimMax{10};
// Everything that is cached has to go through the server, and that may be slow.
constexpr Seconds kFlushMax{600};
constexpr Seconds kForcedFlushMax{5};
constexpr Seconds kCloseMax{10};
constexpr Seconds kGoneMax{10};

class Detachment {
 public:
  Detachment(DetachTools& tools, DetachPeer* peer, std::uint32_t index, DetachOptions options)
      : tools_(tools), peer_(peer), index_(index), options_(options) {}

  Task<std::string> run() {
    Result<NbdDevice> device = tools_.sysfs.device(index_);
    if (!device.ok()) co_await fail(std::move(device).error());
    device_ = std::move(device).value();
    if (!device_.attached()) {
      co_await fail(attach_error(ExitCode::not_attached,
                                 fmt::format("{}: nothing is attached to it", device_.node())));
    }
    Result<void> done = co_await disconnect_unused().as_result();
    co_await release();
    if (!done.ok()) co_await fail(std::move(done).error());
    bool gone = co_await wait_until_gone(tools_, index_, kGoneMax);
    co_await settle();
    if (gone) co_return std::string();
    co_return who_holds_it();
  }

 private:
  Task<void> disconnect_unused() {
    co_await settle();
    co_await refuse_when_used();
    Result<void> prepared = co_await claim_and_flush().as_result();
    if (!prepared.ok() && !options_.force) co_await fail(std::move(prepared).error());
    if (!prepared.ok()) tools_.log.warning("", "{}", prepared.error().message());
    // The driver blocks when it has to send to a server that does not read.
    if (options_.force && peer_ != nullptr) peer_->shut_down_connections();
    co_await disconnect();
  }

  Task<void> settle() {
    Result<void> settled =
        co_await tools_.loop.blocking([] { return settle_udev(kSettleMax); }).as_result();
    if (!settled.ok()) tools_.log.debug("", "{}", settled.error().message());
  }

  Task<void> refuse_when_used() {
    Nanoseconds until = tools_.loop.now() + kPassingMax;
    for (;;) {
      std::vector<DeviceUse> uses = co_await look_for_uses();
      bool passing =
          std::all_of(uses.begin(), uses.end(), [](const DeviceUse& use) { return use.passing; });
      if (uses.empty() || options_.force) co_return;
      if (!passing || tools_.loop.now() >= until) {
        co_await fail(attach_error(
            ExitCode::busy, fmt::format("{} is in use: {}; stop that first, or lose data with "
                                        "--force",
                                        device_.node(), describe_uses(uses))));
      }
      co_await tools_.loop.sleep(kPause, tools_.gate);
    }
  }

  Task<std::vector<DeviceUse>> look_for_uses() {
    // Looks at every process: not on a loop. By value, for a caller that may be gone first.
    return tools_.loop.blocking([files = tools_.files, sysfs = tools_.sysfs,
                                 device = device_]() -> Result<std::vector<DeviceUse>> {
      Result<NbdDevice> fresh = sysfs.device(device.index);
      return find_uses(files, fresh.ok() ? fresh.value() : device);
    });
  }

  Task<void> claim_and_flush() {
    bool served = peer_ == nullptr || peer_->served();
    Result<void> claimed = co_await claim().as_result();
    if (!claimed.ok()) {
      // Nobody can lose by a device that answers nobody.
      if (!served && claimed.error().code == std::errc::timed_out) co_return;
      co_await fail(std::move(claimed).error());
    }
    int fd = claimed_.get();
    if (served) {
      Seconds limit = options_.force ? kForcedFlushMax : kFlushMax;
      auto flush = [fd, node = device_.node()] { return flush_device(fd, node); };
      Result<void> flushed = co_await tools_.node.call(limit, std::move(flush)).as_result();
      if (!flushed.ok()) co_await fail(cannot_flush(flushed.error()));
    }
    auto drop = [fd]() -> Result<void> {
      drop_partitions(fd);
      return {};
    };
    co_await tools_.node.call(kClaimMax, std::move(drop));
  }

  Error cannot_flush(const Error& error) const {
    return Error(error.code, fmt::format("{}; it is still attached, --force gives up what is not "
                                         "written",
                                         error.message()));
  }

  // Another program may lock the device for a moment, as udev does.
  Task<void> claim() {
    Nanoseconds until = tools_.loop.now() + kPassingMax;
    for (;;) {
      auto open = [node = device_.node(), number = device_.number] {
        return claim_device(node, number);
      };
      Result<UniqueFd> fd = co_await tools_.node.call(kClaimMax, std::move(open)).as_result();
      if (fd.ok()) {
        claimed_ = std::move(fd).value();
        co_return;
      }
      bool busy = fd.error().code == std::errc::device_or_resource_busy;
      if (!busy || options_.force || tools_.loop.now() >= until) {
        co_await fail(std::move(fd).error());
      }
      co_await tools_.loop.sleep(kPause, tools_.gate);
    }
  }

  // The claim is still held: nobody can mount what is about to go.
  Task<void> disconnect() {
    Result<void> done =
        co_await tools_.control.disconnect(index_, NbdControl::kCallMax).as_result();
    if (done.ok()) co_return;
    if (done.error().code != std::errc::timed_out || peer_ == nullptr) {
      co_await fail(std::move(done).error());
    }
    peer_->shut_down_connections();
    co_await tools_.control.disconnect(index_, NbdControl::kCallMax);
  }

  // The last close of a device may write to it, so it may block.
  Task<void> release() {
    if (!claimed_) co_return;
    auto close = [fd = std::move(claimed_)]() mutable -> Result<void> {
      fd.reset();
      return {};
    };
    Result<void> closed = co_await tools_.node.call(kCloseMax, std::move(close)).as_result();
    if (closed.ok()) co_return;
    tools_.log.debug("", "closing {}: {}", device_.node(), closed.error().message());
  }

  std::string who_holds_it() const {
    std::string who = describe_uses(find_uses(tools_.files, device_));
    return who.empty() ? "something unknown" : who;
  }

  DetachTools& tools_;
  DetachPeer* peer_;
  std::uint32_t index_;
  DetachOptions options_;
  NbdDevice device_;
  UniqueFd claimed_;
};

}  // namespace

Task<std::string> detach_device(DetachTools& tools, DetachPeer* peer, std::uint32_t index,
                                DetachOptions options) {
  Detachment detachment(tools, peer, index, options);
  co_return co_await detachment.run();
}

Task<bool> wait_until_gone(DetachTools& tools, std::uint32_t index, Milliseconds limit) {
  Nanoseconds until = tools.loop.now() + limit;
  for (;;) {
    Result<NbdDevice> device = tools.sysfs.device(index);
    if (!device.ok() || (!device.value().attached() && device.value().size == 0)) co_return true;
    if (tools.loop.now() >= until) co_return false;
    co_await tools.loop.sleep(kPause, tools.gate);
  }
}

}  // namespace nbdkit
