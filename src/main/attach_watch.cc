// SPDX-License-Identifier: BSD-3-Clause
#include "main/attach_watch.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "attach/listing.h"
#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kRow = "{:<12} {:<10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8}  {}";
constexpr double kMegabyte = 1e6;

struct Sample {
  std::uint64_t diskseq = 0;
  std::string backend;
  NbdCounters counters;
  Clock::time_point taken;

  bool same_attachment(const NbdDevice& device) const {
    return diskseq == device.diskseq && backend == device.backend;
  }
};

double rate(std::uint64_t now, std::uint64_t before, double seconds) {
  return now >= before && seconds > 0 ? static_cast<double>(now - before) / seconds : 0;
}

// Other programs have written it: nothing in it may move the terminal's cursor.
std::string printable(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
  return text;
}

// What the server says; "?" when it does not.
std::string p99_of(const AttachmentStatus& status) {
  if (!status.performance) return "-";
  if (!status.performance->problem.empty()) return "?";
  return status.performance->p99 ? describe_time(*status.performance->p99) : "-";
}

std::string oldest_of(const AttachmentStatus& status) {
  if (!status.performance) return "-";
  if (!status.performance->problem.empty()) return "?";
  return status.performance->oldest ? describe_time(*status.performance->oldest) : "-";
}

std::size_t terminal_width() {
  winsize size{};
  bool known = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

class Watch {
 public:
  Watch() : terminal_(::isatty(STDOUT_FILENO) == 1) {}

  // False when the output has gone.
  bool show(const std::vector<AttachmentStatus>& list) {
    std::vector<std::string> lines;
    if (terminal_ || !begun_) {
      lines.push_back(fmt::format(kRow, "DEVICE", "STATE", "READS/S", "WRITES/S", "READ MB/S",
                                  "WRIT MB/S", "IN FLIGHT", "P99", "OLDEST", "RESTARTS",
                                  "LAST ERROR"));
    }
    begun_ = true;
    std::map<std::uint32_t, Sample> now;
    for (const AttachmentStatus& status : list) lines.push_back(line_of(status, now));
    before_ = std::move(now);
    return print(lines);
  }

 private:
  std::string line_of(const AttachmentStatus& status, std::map<std::uint32_t, Sample>& samples) {
    const NbdDevice& device = status.device;
    Sample now{device.diskseq, device.backend, {}, Clock::now()};
    Result<NbdCounters> counters = sysfs_.counters(device.index);
    if (counters.ok()) now.counters = counters.value();
    auto found = before_.find(device.index);
    bool known = found != before_.end() && found->second.same_attachment(device);
    const Sample before = known ? found->second : now;
    double seconds = std::chrono::duration<double>(now.taken - before.taken).count();
    const NbdCounters& to = now.counters;
    const NbdCounters& from = before.counters;
    auto fixed = [](double number) { return fmt::format("{:.1f}", number); };
    std::string line = fmt::format(
        kRow, device.node(), state_name(status.state),
        fixed(rate(to.reads.requests, from.reads.requests, seconds)),
        fixed(rate(to.writes.requests, from.writes.requests, seconds)),
        fixed(rate(to.reads.bytes, from.reads.bytes, seconds) / kMegabyte),
        fixed(rate(to.writes.bytes, from.writes.bytes, seconds) / kMegabyte),
        device.reads_in_flight + device.writes_in_flight, p99_of(status), oldest_of(status),
        status.restarts, status.last_error.empty() ? "-" : printable(status.last_error));
    samples.emplace(device.index, std::move(now));
    return line;
  }

  bool print(const std::vector<std::string>& lines) {
    std::string text;
    if (terminal_ && painted_ > 0) text += fmt::format("\033[{}F\033[J", painted_);
    // A line that is wrapped would be two to go back over.
    std::size_t width = terminal_ ? terminal_width() : std::string::npos;
    for (const std::string& line : lines) text += line.substr(0, width) + "\n";
    painted_ = lines.size();
    std::fwrite(text.data(), 1, text.size(), stdout);
    return std::fflush(stdout) == 0;
  }

  const bool terminal_;
  bool begun_ = false;
  std::size_t painted_ = 0;
  Sysfs sysfs_;
  std::map<std::uint32_t, Sample> before_;
};

bool has_gone(const Error& error) { return exit_code_of(error) == ExitCode::not_attached; }

Result<void> watch_one(std::uint32_t index, Milliseconds interval) {
  Watch watch;
  std::optional<std::uint64_t> diskseq;
  while (true) {
    Result<AttachmentStatus> status = find_attachment(Sysfs(), index);
    if (!status.ok()) {
      bool known = diskseq.has_value();
      bool gone =
          has_gone(status.error()) || status.error().code == std::errc::no_such_device_or_address;
      if (known && gone) return {};
      return std::move(status).error();
    }
    if (diskseq && *diskseq != status.value().device.diskseq) return {};
    diskseq = status.value().device.diskseq;
    if (!watch.show({status.value()})) return os_error("stdout");
    std::this_thread::sleep_for(interval);
  }
}

}  // namespace

Result<void> watch_devices(std::optional<std::uint32_t> index, Milliseconds interval) {
  if (index) return watch_one(*index, interval);
  Watch watch;
  while (watch.show(list_attachments(Sysfs()))) std::this_thread::sleep_for(interval);
  return os_error("stdout");
}

}  // namespace nbdkit
