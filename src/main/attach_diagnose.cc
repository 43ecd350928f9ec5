// SPDX-License-Identifier: BSD-3-Clause
#include "main/attach_diagnose.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string_view>

#include "attach/diagnosis.h"
#include "base/unique_fd.h"

namespace nbdkit {
namespace {

Result<void> write_all(int fd, std::string_view text, const std::string& where) {
  while (!text.empty()) {
    ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return os_error(where);
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

}  // namespace

Result<void> diagnose_by_command(std::uint32_t index, const std::string& file) {
  if (file.empty()) return write_all(STDOUT_FILENO, diagnose(index), "stdout");
  // Before anything is asked: what cannot be written need not be found out. Neither through a link
  // nor over what is there.
  UniqueFd out(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                      S_IRUSR | S_IWUSR));
  if (!out) return os_error(file);
  if (::fchmod(out.get(), S_IRUSR | S_IWUSR) < 0) return os_error(file);
  Result<void> written = write_all(out.get(), diagnose(index), file);
  if (!written.ok()) ::unlink(file.c_str());
  return written;
}

}  // namespace nbdkit
