// SPDX-License-Identifier: BSD-3-Clause
#include "main/attach_detach.h"

#include <fmt/format.h>

#include "async/runtime.h"
#include "attach/detach.h"
#include "attach/keeper_log.h"
#include "attach/privilege.h"
#include "main/attach_keeper.h"
#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

constexpr Seconds kDetachMax{900};  // Writing back what is cached may take long.
constexpr Seconds kKeeperEndMax{10};
constexpr Seconds kPatience{2};

Error still_held(std::uint32_t index, std::string_view by) {
  return attach_error(
      ExitCode::timeout,
      fmt::format("/dev/nbd{} is detached, but goes only when it is released: {}", index, by));
}

Result<void> ask_keeper(ControlClient& keeper, std::uint32_t index, DetachOptions options) {
  Json params = Json::object().set("force", options.force);
  if (options.lazy) params.set("lazy", true);
  Result<Json> answer = keeper.call("detach", std::move(params), kDetachMax);
  if (!answer.ok()) return std::move(answer).error();
  const Json* waits = answer.value().find("waits");
  if (waits != nullptr && waits->as_string() != nullptr) {
    fmt::print("{}; it is detached as soon as nothing uses it\n", *waits->as_string());
    return {};
  }
  if (!keeper.wait_for_end(kKeeperEndMax)) {
    return attach_error(ExitCode::timeout,
                        fmt::format("/dev/nbd{} is detached, but its keeper does not end", index));
  }
  const Json* held = answer.value().find("held");
  if (held != nullptr && held->as_string() != nullptr) return still_held(index, *held->as_string());
  return {};
}

// A device of another program, or one whose keeper is gone.
class Unmanaged {
 public:
  Unmanaged(std::uint32_t index, DetachOptions options) : index_(index), options_(options) {}

  Result<void> detach() {
    Result<void> result;
    Loop& loop = runtime_.main_loop();
    NBDKIT_TRY(loop.usable());
    finish(run(), [&](Result<void> r) {
      result = std::move(r);
      loop.stop();
    });
    loop.run();
    return result;
  }

 private:
  Task<void> run() {
    Result<void> done = co_await steps().as_result();
    co_await gate_.drained();
    bool node_closed = co_await node_.close(kPatience);
    if (opened_) {
      bool control_closed = co_await control_.close(kPatience);
      node_closed = node_closed && control_closed;
    }
    if (!node_closed) log_.error("", "a call into the kernel has not come back");
    if (!done.ok()) co_await fail(std::move(done).error());
  }

  Task<void> steps() {
    Result<void> permitted = check_may_attach();
    if (!permitted.ok()) co_await fail(std::move(permitted).error());
    opened_ = true;
    co_await control_.open();
    DetachTools tools{runtime_.main_loop(), gate_, log_, control_, sysfs_, node_, KernelFiles()};
    std::string held = co_await detach_device(tools, nullptr, index_, options_);
    if (!held.empty()) co_await fail(still_held(index_, held));
  }

  std::uint32_t index_;
  DetachOptions options_;
  Runtime runtime_;
  KeeperLog log_{false};
  Sysfs sysfs_;
  Gate gate_{runtime_.main_loop()};
  NbdControl control_{runtime_.main_loop(), log_, sysfs_};
  bool opened_ = false;
  Helper node_{runtime_.main_loop(), "nbd-node"};
};

}  // namespace

Result<void> detach_by_command(std::uint32_t index, DetachOptions options) {
  Result<RunFolder> folder = open_folder_of(index);
  if (!folder.ok()) return std::move(folder).error();
  Result<std::optional<ControlClient>> keeper = find_keeper(folder.value(), index);
  if (!keeper.ok()) return std::move(keeper).error();
  if (keeper.value()) return ask_keeper(*keeper.value(), index, options);
  if (options.lazy) {
    return attach_error(ExitCode::not_supported,
                        fmt::format("--lazy: nobody keeps /dev/nbd{} who could wait until it is "
                                    "free (--reattach makes a keeper)",
                                    index));
  }
  // A keeper that is only just starting, or ending, has the lock.
  Result<UniqueFd> lock = folder.value().lock(index);
  if (!lock.ok()) return std::move(lock).error();
  Result<void> done = Unmanaged(index, options).detach();
  bool gone = done.ok() || done.error().code == std::errc::timed_out;
  if (gone) folder.value().remove_state(index);
  folder.value().remove_lock(index);
  return done;
}

}  // namespace nbdkit
