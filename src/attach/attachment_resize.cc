// SPDX-License-Identifier: BSD-3-Clause
// The device follows the size of its export. The server opens it anew first, between two requests:
// that all requests under way were answered says that the driver will not wait for one, either. It
// would do so with a lock that every user of generic netlink needs.
#include <fmt/format.h>

#include <utility>

#include "attach/attachment.h"
#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

constexpr Seconds kLookEvery{5};

}  // namespace

Task<std::uint64_t> Attachment::resize(bool may_shrink) {
  Result<void> may = check_may_change("resized");
  if (!may.ok()) co_await fail(std::move(may).error());
  change_ = Change::preparing;
  Result<std::uint64_t> done = co_await follow_size(may_shrink).as_result();
  std::string problem;
  if (!done.ok()) problem = done.error().message();
  co_await end_change(problem);
  if (!done.ok()) co_await fail(std::move(done).error());
  changed_();
  co_return done.value();
}

Task<std::uint64_t> Attachment::follow_size(bool may_shrink) {
  HandoffQuery query;
  query.export_name = options_.export_name;
  query.kernel = true;
  HandoffExport info = co_await server_->handoff().query(query);
  if (info.size == export_.size) co_return info.size;
  Result<void> fits = check_size(info.size, may_shrink);
  if (!fits.ok()) co_await fail(std::move(fits).error());
  // Nobody may be told of more than there is, nor ask for it.
  bool shrinks = info.size < export_.size;
  if (shrinks) co_await set_kernel_size(info.size);
  co_await reopen(info.size);
  if (!shrinks) co_await set_kernel_size(info.size);
  co_return info.size;
}

Result<void> Attachment::check_size(std::uint64_t size, bool may_shrink) const {
  std::uint64_t block = device_block_size();
  if (size == 0 || size % block != 0) {
    return attach_error(
        ExitCode::invalid_value,
        fmt::format("the export has {} bytes, and the device needs a multiple of {} "
                    "that is not 0; change its size",
                    size, block));
  }
  if (!options_.scan) {
    return attach_error(
        ExitCode::not_supported,
        fmt::format("the export has {} bytes and the device {}, which it keeps: with another "
                    "size the kernel would look for partitions (--no-scan)",
                    size, export_.size));
  }
  if (size > export_.size || may_shrink) return {};
  return attach_error(
      ExitCode::invalid_value,
      fmt::format("the export has {} bytes and the device {}; shrinking it takes what "
                  "is behind away from whoever uses it (--force)",
                  size, export_.size));
}

// The same server gives the connections to itself.
Task<void> Attachment::reopen(std::uint64_t size) {
  HandoffServe pattern;
  pattern.export_name = options_.export_name;
  pattern.kernel = true;
  ConnectionMove move(loop_, server_ends_, std::move(pattern));
  HandoffClient& server = server_->handoff();
  change_ = Change::moving;
  Result<void> taken = co_await move.take(server).as_result();
  if (!taken.ok()) {
    if (is_refusal(taken.error())) change_ = Change::preparing;
    co_await fail(std::move(taken).error());
  }
  auto accept = [this, size](const HandoffExport& info) -> Result<void> {
    if (info.size == size && info.identity == served_.identity) return {};
    return Error(std::errc::invalid_argument, "the export has changed again meanwhile");
  };
  Result<HandoffExport> opened = co_await move.open(server, accept).as_result();
  if (!opened.ok()) {
    co_await move.abandon(server);
    co_await move.restore(server);
    change_ = Change::preparing;
    co_await fail(std::move(opened).error());
  }
  co_await move.go_on(server);
  change_ = Change::preparing;
  served_ = std::move(opened).value();
}

Task<void> Attachment::set_kernel_size(std::uint64_t size) {
  ReconfigureRequest request;
  request.index = *index_;
  request.backend = backend_;
  request.size = size;
  co_await control_.reconfigure(request);
  log_.warning("", "/dev/nbd{}: {} bytes instead of {}", *index_, size, export_.size);
  export_.size = size;
  changed_();
}

// Of a plugin that minds a second handle only its server's user knows when its size has changed.
void Attachment::watch_size() {
  if (!gate_.enter()) return;
  finish(look_at_size(), [this](Result<void>) { gate_.leave(); });
}

Task<void> Attachment::look_at_size() {
  for (;;) {
    co_await loop_.sleep(kLookEvery, gate_);
    if (!served_.shared_open || !check_may_change("resized").ok()) continue;
    HandoffQuery query;
    query.export_name = options_.export_name;
    query.kernel = true;
    Result<HandoffExport> info = co_await server_->handoff().query(query).as_result();
    if (!info.ok() || info.value().size <= export_.size) continue;
    if (gate_.closed() || !check_size(info.value().size, false).ok()) continue;
    Result<std::uint64_t> done = co_await resize(false).as_result();
    if (!done.ok()) log_.error("", "/dev/nbd{}: {}", *index_, done.error().message());
  }
}

}  // namespace nbdkit
