// SPDX-License-Identifier: BSD-3-Clause
// With --swap a second server waits, started, configured and guarded: when the first one dies, the
// memory for another could only be had by writing to the device that nobody serves.
#include <utility>

#include "attach/attachment.h"

namespace nbdkit {

void Attachment::keep_spare() {
  if (options_.swap == SwapMode::off || remote_ || spare_ || !gate_.enter()) return;
  finish(make_spare(), [this](Result<void> made) {
    if (!made.ok() && !closed_) {
      log_.error("", "/dev/nbd{}: there is no spare server: {}", *index_, made.error().message());
    }
    gate_.leave();
  });
}

Task<void> Attachment::make_spare() {
  Launch launch;
  launch.options = options_;
  Result<ServerLock> lock = ServerLock::create(*folder_);
  if (!lock.ok()) co_await fail(std::move(lock).error());
  auto process = std::make_unique<ServerProcess>(loop_, log_);
  std::shared_ptr<Successor> spare =
      std::make_shared<Successor>(std::move(launch), std::move(lock).value(), std::move(process));
  spare_ = spare;
  ServerStart from{spare->launch.options, program_.get(), start_.get(), spare->lock, {}};
  Result<void> started = start_process(*spare->process, from, spare->traces);
  if (!started.ok()) {
    spare_.reset();
    co_await fail(std::move(started).error());
  }
  // An upgrade makes a server, too, under the first name.
  const std::string door = RunFolder::file_name(*index_, RunFolder::kSpareHandoff);
  Result<void> named = folder_->rename_file(spare->traces.door, door);
  if (!named.ok()) log_.error("", "{}", named.error().message());
  if (named.ok()) spare->traces.door = door;
  // It answers when all its threads and memory are there.
  Result<std::vector<HandoffListed>> ready = co_await spare->process->handoff().list().as_result();
  if (spare_ != spare) co_await fail(std::errc::operation_canceled);
  if (ready.ok()) {
    spare_ready_ = true;
    co_return;
  }
  Result<void> why = co_await spare->process->explain(std::move(ready).error()).as_result();
  if (spare_ == spare) co_await end_spare();
  co_await fail(std::move(why).error());
}

// One that is made for other arguments, or that would meet a request of which servers die, is not.
bool Attachment::spare_is_usable() const {
  return spare_ && spare_ready_ && spare_->process->end().empty() && suspects_.marked().empty();
}

void Attachment::take_spare() {
  std::shared_ptr<Successor> spare = std::move(spare_);
  spare_ready_ = false;
  server_ = std::move(spare->process);
  *server_lock_ = std::move(spare->lock);
  traces_ = std::move(spare->traces);
  Result<void> named = server_lock_->name(*folder_, *index_);
  if (!named.ok()) log_.error("", "{}", named.error().message());
}

Task<void> Attachment::end_spare() {
  spare_ready_ = false;
  std::shared_ptr<Successor> gone = std::move(spare_);
  if (!gone) co_return;
  if (!gone->traces.door.empty()) folder_->remove_file(gone->traces.door);
  co_await gone->process->stop(true);
}

}  // namespace nbdkit
