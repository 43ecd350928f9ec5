// SPDX-License-Identifier: BSD-3-Clause
#include "attach/living_server.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <limits>
#include <memory>

#include "attach/keeper_identity.h"
#include "base/parse.h"

namespace nbdkit {
namespace {

std::string target_of(const std::string& link) {
  std::array<char, 256> target;
  ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
  return length < 0 ? std::string() : std::string(target.data(), static_cast<std::size_t>(length));
}

}  // namespace

HeldFile HeldFile::of(int fd, int number) {
  HeldFile file;
  file.number = number;
  // Does not ask a file system that may not answer (FUSE, NFS).
  struct statx status {};
  constexpr int kFlags = AT_EMPTY_PATH | AT_STATX_DONT_SYNC;
  if (::statx(fd, "", kFlags, STATX_INO | STATX_UID, &status) < 0) return file;
  file.device = (std::uint64_t{status.stx_dev_major} << 32) | status.stx_dev_minor;
  file.inode = status.stx_ino;
  file.owner = status.stx_uid;
  return file;
}

bool HeldFile::is_same_file(int fd) const {
  HeldFile other = of(fd, number);
  return inode != 0 && other.device == device && other.inode == inode && other.owner == owner;
}

Json to_json(const HeldFile& file) {
  Json json = Json::object();
  json.set("number", file.number)
      .set("device", file.device)
      .set("inode", file.inode)
      .set("owner", file.owner);
  return json;
}

std::optional<HeldFile> parse_held_file(const Json* json) {
  if (json == nullptr) return {};
  HeldFile file;
  auto read = [&](std::string_view key, std::uint64_t& out) {
    const Json* value = json->find(key);
    std::optional<std::uint64_t> number = value != nullptr ? value->as_unsigned() : std::nullopt;
    out = number.value_or(0);
    return number.has_value();
  };
  std::uint64_t number = 0;
  bool sound = read("number", number) && read("device", file.device) && read("inode", file.inode) &&
               read("owner", file.owner) && number <= std::numeric_limits<int>::max();
  if (!sound) return {};
  file.number = static_cast<int>(number);
  return file;
}

std::uint64_t socket_inode(int fd) {
  struct stat status;
  if (::fstat(fd, &status) < 0 || !S_ISSOCK(status.st_mode)) return 0;
  return status.st_ino;
}

std::optional<LivingServer> LivingServer::find(pid_t pid, std::uint64_t start_time) {
  UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process) return {};
  // The descriptor comes first: it stays with the process whose time this is.
  bool same = start_time != 0 && process_start_time(pid) == start_time;
  pollfd poll{process.get(), POLLIN, 0};
  if (!same || ::poll(&poll, 1, 0) != 0) return {};
  return LivingServer(pid, std::move(process));
}

std::string LivingServer::path_of(int number) const {
  return fmt::format("/proc/{}/fd/{}", pid_, number);
}

UniqueFd LivingServer::take_number(int number) const {
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_getfd, process_.get(), number, 0)));
}

UniqueFd LivingServer::open(const HeldFile& file, int flags) const {
  std::string path = path_of(file.number);
  // Without opening what it may have put there instead.
  UniqueFd found(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!found || !file.is_same_file(found.get())) return {};
  if ((flags & O_PATH) != 0) return found;
  return UniqueFd(::open(fmt::format("/proc/self/fd/{}", found.get()).c_str(), flags | O_CLOEXEC));
}

UniqueFd LivingServer::take(const HeldFile& file) const {
  UniqueFd fd = take_number(file.number);
  if (fd && file.is_same_file(fd.get())) return fd;
  return {};
}

Result<UniqueFd> LivingServer::take_socket(std::uint64_t inode) const {
  std::string wanted = fmt::format("socket:[{}]", inode);
  std::string path = fmt::format("/proc/{}/fd", pid_);
  std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
  while (dirent* entry = folder ? ::readdir(folder.get()) : nullptr) {
    if (target_of(path + "/" + entry->d_name) != wanted) continue;
    auto number = parse_unsigned(entry->d_name, std::numeric_limits<int>::max());
    if (!number.ok()) continue;
    UniqueFd fd = take_number(static_cast<int>(number.value()));
    // It may have been closed a moment ago.
    if (!fd && errno != EBADF && errno != ESRCH) {
      return os_error(fmt::format("the sockets of process {}", pid_));
    }
    if (fd && socket_inode(fd.get()) == inode) return fd;
  }
  return UniqueFd();
}

UniqueFd LivingServer::words() const {
  std::string path = path_of(STDERR_FILENO);
  if (!target_of(path).starts_with("pipe:")) return {};
  return UniqueFd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
}

}  // namespace nbdkit
