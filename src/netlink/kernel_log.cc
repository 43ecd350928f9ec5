// SPDX-License-Identifier: BSD-3-Clause
#include "netlink/kernel_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <limits>

#include "base/parse.h"
#include "base/unique_fd.h"

namespace nbdkit {
namespace {

constexpr const char* kPath = "/dev/kmsg";
constexpr std::size_t kRecordMax = 8192;  // bytes: more than the kernel lets a record have
constexpr std::string_view kOfDevices = "block nbd";

}  // namespace

Result<KernelLog> KernelLog::read() {
  UniqueFd fd(::open(kPath, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!fd) return os_error(kPath);
  KernelLog log;
  std::array<char, kRecordMax> record;
  for (;;) {
    ssize_t length = ::read(fd.get(), record.data(), record.size());
    if (length == 0 || (length < 0 && errno == EAGAIN)) return log;
    // EPIPE: the next ones were overwritten just now; what follows them can be read.
    if (length < 0 && (errno == EPIPE || errno == EINTR)) continue;
    if (length < 0) return os_error(kPath);
    log.add({record.data(), static_cast<std::size_t>(length)});
  }
}

// "6,339,5140900,-,...;text\n KEY=value\n": priority, sequence, time; then lines about it.
void KernelLog::add(std::string_view record) {
  std::size_t begin = record.find(',');
  std::size_t text = record.find(';');
  if (begin == record.npos || text == record.npos) return;
  std::size_t end = record.find(',', begin + 1);
  if (end == record.npos || end > text) return;
  Result<std::uint64_t> sequence = parse_unsigned(record.substr(begin + 1, end - begin - 1),
                                                  std::numeric_limits<std::uint64_t>::max() - 1);
  if (!sequence.ok()) return;
  if (!oldest_) oldest_ = sequence.value();
  next_ = sequence.value() + 1;
  std::string_view line = record.substr(text + 1);
  line = line.substr(0, line.find('\n'));
  if (line.starts_with(kOfDevices)) messages_.push_back({sequence.value(), std::string(line)});
}

std::vector<std::string_view> KernelLog::about(std::uint32_t index, std::uint64_t sequence) const {
  const std::string prefix = fmt::format("{}{}: ", kOfDevices, index);
  std::vector<std::string_view> found;
  for (const Message& message : messages_) {
    if (message.sequence < sequence || !message.text.starts_with(prefix)) continue;
    found.push_back(std::string_view(message.text).substr(prefix.size()));
  }
  return found;
}

}  // namespace nbdkit
