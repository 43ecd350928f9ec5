// SPDX-License-Identifier: BSD-3-Clause
// Temporary: a folder with files for a test, gone with it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/unique_fd.h"

namespace nbdkit {

class Temporary {
 public:
  Temporary() {
    const char* place = std::getenv("TMPDIR");
    path_ = std::string(place != nullptr ? place : "/var/tmp") + "/nbdkit-file-XXXXXX";
    EXPECT_NE(::mkdtemp(path_.data()), nullptr) << path_;
  }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  ~Temporary() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }
  std::string path(std::string_view name) const { return path_ + "/" + std::string(name); }

  // Makes a file of `content` and gives its path.
  std::string file(std::string_view name, std::string_view content) const {
    UniqueFd fd(::open(path(name).c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    EXPECT_EQ(::write(fd.get(), content.data(), content.size()),
              static_cast<ssize_t>(content.size()));
    return path(name);
  }
  // A file of nothing but a hole.
  std::string sparse_file(std::string_view name, std::uint64_t size) const {
    std::string made = file(name, "");
    EXPECT_EQ(::truncate(made.c_str(), static_cast<off_t>(size)), 0);
    return made;
  }
  std::string content(std::string_view name) const {
    UniqueFd fd(::open(path(name).c_str(), O_RDONLY | O_CLOEXEC));
    std::string bytes;
    char buffer[65536];
    for (ssize_t n; (n = ::read(fd.get(), buffer, sizeof buffer)) > 0;) {
      bytes.append(buffer, static_cast<std::size_t>(n));
    }
    return bytes;
  }
  // 512-byte units on the disk.
  std::uint64_t blocks(std::string_view name) const {
    struct stat status {};
    EXPECT_EQ(::stat(path(name).c_str(), &status), 0);
    return static_cast<std::uint64_t>(status.st_blocks);
  }

 private:
  std::string path_;
};

}  // namespace nbdkit
