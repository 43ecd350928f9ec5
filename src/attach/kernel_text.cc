// SPDX-License-Identifier: BSD-3-Clause
#include "attach/kernel_text.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <deque>
#include <memory>
#include <system_error>
#include <vector>

#include "base/unique_fd.h"

namespace nbdkit {
namespace {

constexpr std::size_t kFileMax = 64 * 1024;
constexpr std::size_t kEntriesMax = 256;
constexpr std::size_t kThreadsMax = 64;
constexpr std::size_t kLogLinesMax = 200;

std::string why_not() {
  return fmt::format("(cannot be read: {})", std::generic_category().message(errno));
}

std::vector<std::string> entries_of(const std::string& path) {
  std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
  std::vector<std::string> names;
  while (dirent* entry = folder ? ::readdir(folder.get()) : nullptr) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  auto by_number = [](const std::string& a, const std::string& b) {
    bool numbers = std::isdigit(static_cast<unsigned char>(a.front())) != 0 &&
                   std::isdigit(static_cast<unsigned char>(b.front())) != 0;
    return numbers && a.size() != b.size() ? a.size() < b.size() : a < b;
  };
  std::sort(names.begin(), names.end(), by_number);
  return names;
}

std::string show_open_files(const std::string& process) {
  std::vector<std::string> numbers = entries_of(process + "/fd");
  std::string out = fmt::format("{}/fd: {} open\n", process, numbers.size());
  for (std::size_t i = 0; i < std::min(numbers.size(), kEntriesMax); ++i) {
    std::array<char, 512> target;
    ssize_t length =
        ::readlink((process + "/fd/" + numbers[i]).c_str(), target.data(), target.size());
    if (length < 0) continue;
    out += fmt::format("  {} -> {}\n", numbers[i],
                       std::string_view(target.data(), static_cast<std::size_t>(length)));
  }
  return out;
}

std::string show_threads(const std::string& process) {
  std::vector<std::string> threads = entries_of(process + "/task");
  std::string out = fmt::format("{}/task: {} threads\n", process, threads.size());
  for (std::size_t i = 0; i < std::min(threads.size(), kThreadsMax); ++i) {
    const std::string thread = fmt::format("{}/task/{}", process, threads[i]);
    for (std::string_view name : {"comm", "wchan", "schedstat", "stack"}) {
      out += show_file(fmt::format("{}/{}", thread, name));
    }
  }
  return out;
}

bool is_about(std::string_view line, std::string_view device) {
  if (line.find("nbd: ") != line.npos || line.find("block nbd") != line.npos) return true;
  if (line.find("blocked for more than") != line.npos) return true;
  for (std::size_t at = 0; (at = line.find(device, at)) != line.npos; at += device.size()) {
    std::size_t next = at + device.size();
    if (next == line.size() || std::isdigit(static_cast<unsigned char>(line[next])) == 0) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::string read_text(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!file) return why_not();
  std::string text;
  std::array<char, 4096> buffer;
  while (text.size() < kFileMax) {
    ssize_t length = ::read(file.get(), buffer.data(), buffer.size());
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return text + why_not();
    if (length == 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(length));
  }
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::string show_file(const std::string& path) {
  std::string text = read_text(path);
  if (text.find('\n') == std::string::npos) return fmt::format("{}: {}\n", path, text);
  return fmt::format("{}:\n{}\n", path, text);
}

std::string show_folder(const std::string& path) {
  std::vector<std::string> names = entries_of(path);
  if (names.empty()) return fmt::format("{}: nothing there\n", path);
  std::string out;
  for (const std::string& name : names) {
    struct stat status;
    const std::string file = path + "/" + name;
    bool readable = ::lstat(file.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
                    (status.st_mode & S_IRUSR) != 0;
    if (readable) out += show_file(file);
  }
  return out;
}

std::string show_lines(const std::string& path, std::string_view word) {
  std::string text = read_text(path) + "\n";
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = text.find('\n', at);
    std::string_view line = std::string_view(text).substr(at, end - at);
    if (line.find(word) != line.npos) out += fmt::format("{}: {}\n", path, line);
    at = end + 1;
  }
  return out;
}

std::string show_process(pid_t pid) {
  const std::string process = fmt::format("/proc/{}", pid);
  std::string out;
  for (std::string_view name :
       {"status", "limits", "oom_score", "oom_score_adj", "sched", "cgroup", "io"}) {
    out += show_file(fmt::format("{}/{}", process, name));
  }
  return out + show_open_files(process) + show_threads(process);
}

// One read is one message: "PRIORITY,NUMBER,MICROSECONDS,FLAGS;TEXT".
std::string show_kernel_log(std::uint32_t index) {
  UniqueFd log(::open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!log) return "/dev/kmsg: " + why_not() + "\n";
  const std::string device = fmt::format("nbd{}", index);
  std::deque<std::string> lines;
  std::array<char, 8192> buffer;
  for (;;) {
    ssize_t length = ::read(log.get(), buffer.data(), buffer.size());
    if (length < 0 && (errno == EINTR || errno == EPIPE)) continue;  // EPIPE: overwritten
    if (length <= 0) break;
    std::string_view line(buffer.data(), static_cast<std::size_t>(length));
    line = line.substr(0, line.find('\n'));
    if (!is_about(line, device)) continue;
    lines.emplace_back(line);
    if (lines.size() > kLogLinesMax) lines.pop_front();
  }
  if (lines.empty()) return "nothing about this device\n";
  return fmt::format("{}\n", fmt::join(lines, "\n"));
}

}  // namespace nbdkit
