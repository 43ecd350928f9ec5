// SPDX-License-Identifier: BSD-3-Clause
#include "attach/server_lock.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <thread>
#include <utility>

namespace nbdkit {
namespace {

constexpr Milliseconds kPause{10};

struct Inode {
  std::uint64_t device = 0;
  std::uint64_t number = 0;
  bool operator==(const Inode&) const = default;
};

// Does not ask a file system that may not answer (FUSE, NFS).
Inode inode_at(int folder, const char* name, int flags) {
  struct statx status {};
  if (::statx(folder, name, flags | AT_STATX_DONT_SYNC, STATX_INO, &status) < 0) return {};
  std::uint64_t device = (std::uint64_t{status.stx_dev_major} << 32) | status.stx_dev_minor;
  return {device, status.stx_ino};
}

bool has_open(const std::string& process, const Inode& inode) {
  std::string path = process + "/fd";
  std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
  if (!folder) return false;
  while (dirent* entry = ::readdir(folder.get())) {
    if (entry->d_name[0] == '.') continue;
    if (inode_at(::dirfd(folder.get()), entry->d_name, 0) == inode) return true;
  }
  return false;
}

}  // namespace

Result<ServerLock> ServerLock::create(const RunFolder& folder) {
  Result<UniqueFd> file = folder.create_unnamed();
  if (!file.ok()) return std::move(file).error();
  return ServerLock(std::move(file).value());
}

Result<void> ServerLock::open(const RunFolder& folder, std::uint32_t index,
                              std::optional<ServerLock>& lock) {
  Result<UniqueFd> file = folder.open_file(RunFolder::file_name(index, RunFolder::kServer));
  if (!file.ok()) return std::move(file).error();
  lock = ServerLock(std::move(file).value());
  return {};
}

Result<void> ServerLock::name(const RunFolder& folder, std::uint32_t index) {
  return folder.name_file(file_.get(), RunFolder::file_name(index, RunFolder::kServer));
}

// A lock belongs to what one open() has made.
Result<UniqueFd> ServerLock::take() const {
  std::string path = fmt::format("/proc/self/fd/{}", file_.get());
  UniqueFd own(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!own) return os_error("the server's lock");
  if (::flock(own.get(), LOCK_EX | LOCK_NB) < 0) return os_error("the server's lock");
  return own;
}

std::vector<pid_t> ServerLock::kill_holders() const {
  std::vector<pid_t> found;
  Inode inode = inode_at(file_.get(), "", AT_EMPTY_PATH);
  std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir("/proc"), ::closedir);
  while (dirent* entry = folder ? ::readdir(folder.get()) : nullptr) {
    auto number = parse_unsigned(entry->d_name, 1u << 30);
    if (!number.ok()) continue;
    auto pid = static_cast<pid_t>(number.value());
    // The descriptor comes first: it stays with the process that is looked at then.
    UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!process || pid == ::getpid() || !has_open(fmt::format("/proc/{}", pid), inode)) continue;
    found.push_back(pid);
    ::syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0);
  }
  return found;
}

Result<std::vector<pid_t>> ServerLock::end_holders(Milliseconds limit) const {
  auto until = std::chrono::steady_clock::now() + limit;
  for (;;) {
    Result<UniqueFd> lock = take();
    if (lock.ok()) return std::vector<pid_t>();
    if (lock.error().code != std::errc::operation_would_block) return std::move(lock).error();
    std::vector<pid_t> holders = kill_holders();
    if (std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(kPause);
      continue;
    }
    if (holders.empty()) return std::move(lock).error();
    return holders;
  }
}

}  // namespace nbdkit
