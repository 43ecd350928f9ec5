// SPDX-License-Identifier: BSD-3-Clause
#include "source.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace nbdkit {
namespace {

class FileSource final : public Source {
 public:
  explicit FileSource(std::string path) : path_(std::move(path)) {}

  Result<OpenedFile> open(const std::string&, OpenOptions options) const override {
    return open_file(
        path_, [this](int flags) { return ::open(path_.c_str(), flags); }, options);
  }

 private:
  const std::string path_;
};

class FdSource final : public Source {
 public:
  FdSource(int fd, int flags) : fd_(fd), flags_(flags) {}

  bool is_inherited() const override { return true; }
  Result<OpenedFile> open(const std::string&, OpenOptions options) const override {
    // Whoever opened it for direct access has decided.
    if ((flags_ & O_DIRECT) != 0) options.direct = true;
    return open_file(
        fmt::format("fd={}", fd_), [this](int flags) { return again(flags); }, options);
  }

 private:
  // The flags of the description are shared with whoever gave it, so they are never changed.
  int again(int flags) const {
    if ((flags & O_PATH) == 0) {
      if ((flags & O_ACCMODE) == O_RDWR && (flags_ & O_ACCMODE) != O_RDWR) {
        errno = EACCES;
        return -1;
      }
      if ((flags & O_DIRECT) != (flags_ & O_DIRECT)) {
        return ::open(fmt::format("/proc/self/fd/{}", fd_).c_str(), flags);
      }
    }
    return ::fcntl(fd_, F_DUPFD_CLOEXEC, 3);
  }

  const int fd_;
  const int flags_;
};

class DirectorySource final : public Source {
 public:
  DirectorySource(std::string name, UniqueFd directory)
      : name_(std::move(name)), directory_(std::move(directory)) {}

  bool is_directory() const override { return true; }
  Result<OpenedFile> open(const std::string& export_name, OpenOptions options) const override;
  Result<std::vector<std::string>> list(std::size_t max) const override;

 private:
  static constexpr int kTriesMax = 100;

  int open_inside(const std::string& name, int flags) const;

  const std::string name_;
  const UniqueFd directory_;
};

// Never out of the directory, whatever links there are in it.
int DirectorySource::open_inside(const std::string& name, int flags) const {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  for (int tries = 0;; ++tries) {
    long fd = ::syscall(SYS_openat2, directory_.get(), name.c_str(), &how, sizeof how);
    // EAGAIN: something was renamed meanwhile, and the kernel cannot be sure.
    if (fd >= 0 || errno != EAGAIN || tries == kTriesMax) return static_cast<int>(fd);
  }
}

Result<OpenedFile> DirectorySource::open(const std::string& export_name,
                                         OpenOptions options) const {
  if (export_name.empty()) {
    return Error(std::errc::no_such_file_or_directory,
                 fmt::format("{}: the client asked for no export by name, and a directory has no "
                             "default",
                             name_));
  }
  if (export_name.find('/') != std::string::npos || export_name.find('\0') != std::string::npos) {
    return Error(std::errc::no_such_file_or_directory,
                 fmt::format("{}: an export name cannot have a '/' in it", name_));
  }
  auto path = fmt::format("{}/{}", name_, export_name);
  auto file = open_file(
      path, [&](int flags) { return open_inside(export_name, flags); }, options);
  if (file.ok() || file.error().code != std::errc::cross_device_link) return file;
  return Error(std::errc::no_such_file_or_directory,
               fmt::format("{}: is a link that leads out of the directory", path));
}

Result<std::vector<std::string>> DirectorySource::list(std::size_t max) const {
  UniqueFd fd(::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DIR* directory = fd ? ::fdopendir(fd.get()) : nullptr;
  if (directory == nullptr) return os_error(fmt::format("{}: list", name_));
  (void)fd.release();  // closedir() closes it.
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(directory)) {
    if (names.size() == max) break;
    std::string name = entry->d_name;
    UniqueFd place(open_inside(name, O_PATH | O_CLOEXEC));
    if (place && check_type(name, place.get()).ok()) names.push_back(std::move(name));
    errno = 0;
  }
  int number = errno;
  ::closedir(directory);
  if (number != 0) return os_error(fmt::format("{}: list", name_), number);
  std::sort(names.begin(), names.end());
  return names;
}

// It is inherited, and what this program starts has no use for it.
Result<int> flags_of(std::string_view key, int fd) {
  int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
    return os_error(fmt::format("{}={}", key, fd));
  }
  return flags;
}

}  // namespace

Result<std::vector<std::string>> Source::list(std::size_t) const {
  return std::vector<std::string>();
}

Result<std::unique_ptr<Source>> file_source(std::string path) {
  UniqueFd place(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!place) return os_error(path);
  NBDKIT_TRY(check_type(path, place.get()));
  return std::make_unique<FileSource>(std::move(path));
}

Result<std::unique_ptr<Source>> fd_source(int fd) {
  Result<int> flags = flags_of("fd", fd);
  if (!flags.ok()) return std::move(flags).error();
  NBDKIT_TRY(check_type(fmt::format("fd={}", fd), fd));
  if ((flags.value() & O_ACCMODE) == O_WRONLY || (flags.value() & O_PATH) != 0) {
    return Error(std::errc::invalid_argument, fmt::format("fd={}: is not open for reading", fd));
  }
  return std::make_unique<FdSource>(fd, flags.value());
}

Result<std::unique_ptr<Source>> directory_source(std::string path) {
  UniqueFd fd(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return os_error(path);
  return std::make_unique<DirectorySource>(std::move(path), std::move(fd));
}

Result<std::unique_ptr<Source>> dirfd_source(int fd) {
  Result<int> flags = flags_of("dirfd", fd);
  if (!flags.ok()) return std::move(flags).error();
  struct stat status;
  if (::fstat(fd, &status) != 0) return os_error(fmt::format("dirfd={}", fd));
  if (!S_ISDIR(status.st_mode)) {
    return Error(std::errc::not_a_directory, fmt::format("dirfd={}: is no directory", fd));
  }
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!copy) return os_error(fmt::format("dirfd={}", fd));
  return std::make_unique<DirectorySource>(fmt::format("dirfd={}", fd), std::move(copy));
}

}  // namespace nbdkit
