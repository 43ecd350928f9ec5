// SPDX-License-Identifier: BSD-3-Clause
// Who looks at a device that has just been made: the kernel for partitions, udev for file systems.
// The driver has no way to forbid it, so with --no-scan all of them see an empty device, and its
// server gets the connections afterwards. The kernel looks once, when a device is opened that has
// got its size: never again as long as nobody asks for it and the size stays.
#include <fmt/format.h>

#include <fstream>
#include <utility>

#include "attach/attachment.h"
#include "attach/device_node.h"
#include "attach/udev.h"
#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

constexpr Seconds kNodeMax{5};     // until devtmpfs or udev has made the node
constexpr Seconds kScanMax{60};    // the server has to read the partition table
constexpr Seconds kSettleMax{10};  // udev looking at the new device
constexpr Seconds kFlushMax{10};
constexpr Milliseconds kPause{20};

std::string new_identifier() {
  std::ifstream file("/proc/sys/kernel/random/uuid");
  std::string uuid;
  std::getline(file, uuid);
  return uuid;
}

}  // namespace

// The one thing that the kernel tells everybody about an attachment, udev's rules among them.
std::string Attachment::new_backend() const {
  return fmt::format("{} nbdkit {}{}{}", new_identifier(), options_.scan ? "scan" : "no-scan",
                     options_.name.empty() ? "" : " ", options_.name);
}

Task<void> Attachment::scan() {
  Result<NbdDevice> found = sysfs_.device(*index_);
  if (!found.ok()) co_await fail(std::move(found).error());
  NbdDevice device = std::move(found).value();
  Nanoseconds until = loop_.now() + kNodeMax;
  for (;;) {
    auto look = [node = device.node(), number = device.number] {
      return scan_device(node, number);
    };
    Result<std::uint64_t> size = co_await node_.call(kScanMax, std::move(look)).as_result();
    if (size.ok() && size.value() == export_.size) co_return;
    if (size.ok()) {
      co_await fail(attach_error(
          ExitCode::failure,
          fmt::format("{} has {} bytes instead of {}", device.node(), size.value(), export_.size)));
    }
    bool missing = size.error().code == std::errc::no_such_file_or_directory;
    if (!missing || stopped() || loop_.now() >= until) co_await fail(std::move(size).error());
    co_await loop_.sleep(kPause, gate_);
  }
}

// Other data is there. Whoever has looked at what was there before may have it open for a moment.
Task<void> Attachment::scan_again() {
  if (!options_.scan) co_return;
  Result<NbdDevice> found = sysfs_.device(*index_);
  if (!found.ok()) co_await fail(std::move(found).error());
  NbdDevice device = std::move(found).value();
  Nanoseconds until = loop_.now() + kNodeMax;
  for (;;) {
    auto look = [node = device.node(), number = device.number] {
      return reread_partitions(node, number);
    };
    Result<void> read = co_await node_.call(kScanMax, std::move(look)).as_result();
    if (read.ok()) break;
    bool busy = read.error().code == std::errc::device_or_resource_busy;
    if (!busy || loop_.now() >= until) co_await fail(std::move(read).error());
    co_await loop_.sleep(kPause, gate_);
  }
  // The driver says nothing of a device without partitions.
  co_await announce();
  co_await settle();
}

Task<void> Attachment::announce() {
  auto announce = [sysfs = sysfs_, index = *index_] {
    return sysfs.set_attribute(index, "uevent", "change");
  };
  Result<void> announced = co_await loop_.blocking(std::move(announce)).as_result();
  if (!announced.ok()) log_.warning("", "{}", announced.error().message());
}

// What the driver tells first may come before the identifier is there.
Task<void> Attachment::let_udev_look() {
  if (!options_.name.empty() || !options_.scan) co_await announce();
  co_await settle();
}

Task<void> Attachment::settle() {
  Result<void> settled =
      co_await loop_.blocking([] { return settle_udev(kSettleMax); }).as_result();
  if (!settled.ok()) log_.warning("", "{}", settled.error().message());
}

Result<void> Attachment::raise_shield() {
  shield_.emplace(loop_);
  for (const UniqueFd& end : server_ends_) NBDKIT_TRY(shield_->answer(end.get()));
  return {};
}

Task<void> Attachment::drop_shield() {
  co_await shield_->end(gate_);
  shield_.reset();
  co_await serve_connections(0);
  // Somebody may have it open, and have kept what was not there.
  Result<NbdDevice> device = sysfs_.device(*index_);
  if (!device.ok()) co_await fail(std::move(device).error());
  auto forget = [node = device.value().node(), number = device.value().number] {
    return forget_cached(node, number);
  };
  co_await node_.call(kFlushMax, std::move(forget));
}

}  // namespace nbdkit
