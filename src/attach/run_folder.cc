// SPDX-License-Identifier: BSD-3-Clause
#include "attach/run_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <array>
#include <cstdio>
#include <memory>

#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

constexpr std::string_view kStarting = "handoff.of-process-";

Error unsafe(const std::string& path, std::string_view why) {
  return attach_error(ExitCode::not_permitted,
                      fmt::format("{}: {}; remove it or set it right", path, why));
}

// Another user's file or folder would decide what we believe about our devices.
Result<void> check_ours(int fd, const std::string& path, mode_t kind) {
  struct stat status;
  if (::fstat(fd, &status) < 0) return os_error(path);
  if ((status.st_mode & S_IFMT) != kind) return unsafe(path, "is of another kind than expected");
  if (status.st_uid != ::geteuid()) {
    return unsafe(path, fmt::format("belongs to user {}", status.st_uid));
  }
  if ((status.st_mode & 022) != 0) return unsafe(path, "others may write to it");
  return {};
}

Result<void> write_all(int fd, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return os_error(path);
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

bool same_file(int fd, int folder, const std::string& name) {
  struct stat held, named;
  return ::fstat(fd, &held) == 0 &&
         ::fstatat(folder, name.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
         held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

std::string turn_name(const std::string& name) { return fmt::format("name-{}.lock", name); }

}  // namespace

Result<RunFolder> RunFolder::open(std::string path) {
  if (::mkdir(path.c_str(), 0700) < 0 && errno != EEXIST) {
    if (errno == EACCES) {
      return attach_error(ExitCode::not_permitted,
                          fmt::format("{}: Permission denied; run it as root", path));
    }
    return os_error(path);
  }
  Result<RunFolder> folder = open_existing(std::move(path));
  if (folder.ok()) folder.value().remove_abandoned_doors();
  return folder;
}

std::string RunFolder::door_name(std::optional<std::uint32_t> index) {
  if (index) return file_name(*index, "handoff.new");
  return fmt::format("{}{}", kStarting, ::getpid());
}

void RunFolder::remove_abandoned_doors() const {
  std::unique_ptr<DIR, int (*)(DIR*)> files(::opendir(path_.c_str()), ::closedir);
  while (dirent* entry = files ? ::readdir(files.get()) : nullptr) {
    std::string_view name = entry->d_name;
    if (!name.starts_with(kStarting)) continue;
    std::string process = fmt::format("/proc/{}", name.substr(kStarting.size()));
    if (::access(process.c_str(), F_OK) != 0) remove_file(std::string(name));
  }
}

Result<RunFolder> RunFolder::open_existing(std::string path) {
  UniqueFd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder) {
    if (errno == EACCES) {
      return attach_error(ExitCode::not_permitted,
                          fmt::format("{}: Permission denied; run it as root", path));
    }
    return os_error(path);
  }
  NBDKIT_TRY(check_ours(folder.get(), path, S_IFDIR));
  return RunFolder(std::move(path), std::move(folder));
}

Result<UniqueFd> RunFolder::open_lock(const std::string& name) const {
  std::string path = path_ + "/" + name;
  UniqueFd file(::openat(folder_.get(), name.c_str(),
                         O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));
  if (!file) return os_error(path);
  NBDKIT_TRY(check_ours(file.get(), path, S_IFREG));
  return file;
}

Result<UniqueFd> RunFolder::lock(std::uint32_t index) const {
  std::string name = file_name(index, "lock");
  for (;;) {
    Result<UniqueFd> file = open_lock(name);
    if (!file.ok()) return file;
    if (::flock(file.value().get(), LOCK_EX | LOCK_NB) < 0) {
      return attach_error(ExitCode::busy,
                          fmt::format("/dev/nbd{0} is in use: another nbdkit-attach holds {1}/{2} "
                                      "(nbdkit-attach --status /dev/nbd{0} says more)",
                                      index, path_, name));
    }
    // The last holder may have removed the file between our open and our lock.
    if (same_file(file.value().get(), folder_.get(), name)) return file;
  }
}

Result<UniqueFd> RunFolder::wait_for_turn(const std::string& name) const {
  const std::string file_name = turn_name(name);
  for (;;) {
    Result<UniqueFd> file = open_lock(file_name);
    if (!file.ok()) return file;
    while (::flock(file.value().get(), LOCK_EX) < 0) {
      if (errno != EINTR) return os_error(path_ + "/" + file_name);
    }
    // The one before us has removed the file that we were waiting for.
    if (same_file(file.value().get(), folder_.get(), file_name)) return file;
  }
}

void RunFolder::end_turn(const std::string& name, UniqueFd turn) const {
  // Through a duplicate of ours the turn may have ended before.
  if (turn && same_file(turn.get(), folder_.get(), turn_name(name))) remove_file(turn_name(name));
}

void RunFolder::remove_lock(std::uint32_t index) const {
  ::unlinkat(folder_.get(), file_name(index, "lock").c_str(), 0);
}

std::string RunFolder::file_name(std::uint32_t index, std::string_view kind) {
  return fmt::format("nbd{}.{}", index, kind);
}

Result<UniqueFd> RunFolder::create_file(const std::string& name) const {
  std::string path = path_ + "/" + name;
  // Whoever holds the device's lock is the only writer: what is there is a dead one's.
  ::unlinkat(folder_.get(), name.c_str(), 0);
  UniqueFd file(::openat(folder_.get(), name.c_str(),
                         O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file) return os_error(path);
  return file;
}

Result<UniqueFd> RunFolder::create_unnamed() const {
  UniqueFd file(::openat(folder_.get(), ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));
  if (!file) return os_error(path_);
  return file;
}

Result<void> RunFolder::name_file(int file, const std::string& name) const {
  const std::string open_file = fmt::format("/proc/self/fd/{}", file);
  const std::string temporary = name + ".new";
  remove_file(temporary);
  if (::linkat(AT_FDCWD, open_file.c_str(), folder_.get(), temporary.c_str(), AT_SYMLINK_FOLLOW) <
      0) {
    return os_error(path_ + "/" + name);
  }
  Result<void> named = rename_file(temporary, name);
  // A name of the same file already: then it is still there.
  remove_file(temporary);
  return named;
}

Result<UniqueFd> RunFolder::open_file(const std::string& name) const {
  std::string path = path_ + "/" + name;
  UniqueFd file(
      ::openat(folder_.get(), name.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file) return os_error(path);
  NBDKIT_TRY(check_ours(file.get(), path, S_IFREG));
  return file;
}

Result<void> RunFolder::rename_file(const std::string& from, const std::string& to) const {
  if (::renameat(folder_.get(), from.c_str(), folder_.get(), to.c_str()) == 0) return {};
  return os_error(path_ + "/" + from);
}

void RunFolder::remove_file(const std::string& name) const {
  ::unlinkat(folder_.get(), name.c_str(), 0);
}

Result<void> RunFolder::write_file(const std::string& name, std::string_view text) const {
  std::string temporary = name + ".new";
  Result<UniqueFd> file = create_file(temporary);
  if (!file.ok()) return std::move(file).error();
  Result<void> written = write_all(file.value().get(), text, path_ + "/" + temporary);
  if (written.ok()) written = rename_file(temporary, name);
  if (!written.ok()) remove_file(temporary);
  return written;
}

Result<std::string> RunFolder::read_file(const std::string& name, std::size_t max) const {
  std::string path = path_ + "/" + name;
  Result<UniqueFd> file = open_file(name);
  if (!file.ok()) return std::move(file).error();
  std::string text;
  std::array<char, 4096> buffer;
  for (;;) {
    ssize_t length = ::read(file.value().get(), buffer.data(), buffer.size());
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return os_error(path);
    if (length == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(length));
    if (text.size() > max) return Error(std::errc::file_too_large, path + ": too large");
  }
}

Result<void> RunFolder::write_state(std::uint32_t index, std::string_view text) const {
  return write_file(file_name(index, "json"), text);
}

Result<std::string> RunFolder::read_state(std::uint32_t index) const {
  return read_file(file_name(index, "json"), kFileMax);
}

Result<void> RunFolder::write_start(std::uint32_t index, std::string_view text) const {
  return write_file(file_name(index, "start"), text);
}

Result<std::string> RunFolder::read_start(std::uint32_t index) const {
  return read_file(file_name(index, "start"), kStartMax);
}

void RunFolder::remove_state(std::uint32_t index) const {
  for (std::string_view kind :
       {std::string_view("json"), std::string_view("sock"), std::string_view("start"), kServer,
        kHandoff, kSpareHandoff, std::string_view("handoff.new"), std::string_view("json.new"),
        std::string_view("start.new"), std::string_view("server.new")}) {
    remove_file(file_name(index, kind));
  }
}

std::string RunFolder::socket_path(std::uint32_t index) const {
  return path_ + "/" + file_name(index, "sock");
}

}  // namespace nbdkit
