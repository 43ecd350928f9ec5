// SPDX-License-Identifier: BSD-3-Clause
#include "attach/queue_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

#include "base/parse.h"
#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kKiB = 1024;
// As kernels since 6.11 have it. Longer requests are hardly faster, but longer under way, with all
// that waits behind them.
constexpr std::uint64_t kRequestMax = 1280 * kKiB;
constexpr std::uint64_t kPreferredMax = 4096 * kKiB;
// What the driver has begun with for as long as it has been used for swap.
constexpr std::uint64_t kSwapRequestMax = 128 * kKiB;
constexpr std::uint64_t kReadAheadMin = 128 * kKiB;  // the kernel's own
constexpr std::string_view kRequests = "128";        // as many as the driver has room for

// Of a wish the user may have.
constexpr std::array<std::string_view, 9> kKeys{"scheduler",   "max_sectors_kb", "read_ahead_kb",
                                                "nr_requests", "rotational",     "nomerges",
                                                "rq_affinity", "wbt_lat_usec",   "iostats"};
constexpr std::string_view kRequestKey = "max_sectors_kb";

// What one request may have, as the export says it; all blocks are whole.
std::uint64_t longest_request_kb(const QueueNeeds& needs, std::uint64_t hardware_kb) {
  constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint32_t>::max();
  std::uint64_t maximum = needs.block_size.known() ? needs.block_size.maximum : kNoLimit;
  if (hardware_kb > 0) maximum = std::min(maximum, hardware_kb * kKiB);
  maximum -= maximum % std::max(needs.device_block_size, kKiB);
  return std::max<std::uint64_t>(maximum / kKiB, 1);
}

// As the kernel does for devices that tell it their best size: two such requests ahead.
std::uint64_t read_ahead_kb(const QueueNeeds& needs) {
  std::uint64_t preferred = std::min<std::uint64_t>(needs.block_size.preferred, kPreferredMax);
  return std::max(2 * preferred, kReadAheadMin) / kKiB;
}

class Settings {
 public:
  explicit Settings(const QueueNeeds& needs) : needs_(needs) {}

  void add(std::string_view key, std::string_view usual) {
    const std::string* chosen = choice(key);
    list_.push_back(
        {fmt::format("queue/{}", key), chosen ? *chosen : std::string(usual), chosen != nullptr});
  }
  void add_fixed(std::string_view attribute, std::string_view value) {
    list_.push_back({std::string(attribute), std::string(value), false});
  }
  const std::string* choice(std::string_view key) const {
    const std::string* found = nullptr;  // the last one counts
    for (const auto& [name, value] : needs_.chosen) {
      if (name == key) found = &value;
    }
    return found;
  }
  std::vector<QueueSetting> take() { return std::move(list_); }

 private:
  const QueueNeeds& needs_;
  std::vector<QueueSetting> list_;
};

Result<void> check_request_size(const std::string& wanted, std::uint64_t longest_kb) {
  Result<std::uint64_t> number = parse_unsigned(wanted, std::numeric_limits<std::uint32_t>::max());
  if (number.ok() && number.value() > 0 && number.value() <= longest_kb) return {};
  return attach_error(ExitCode::invalid_value,
                      fmt::format("--queue={}={}: must be from 1 to {}, the longest request that "
                                  "the export and the kernel's driver take",
                                  kRequestKey, wanted, longest_kb));
}

// A knob that shows several values has the one that is set in brackets.
std::string_view set_value(std::string_view shown) {
  std::size_t begin = shown.find('[');
  std::size_t end = shown.find(']');
  if (begin == std::string_view::npos || end == std::string_view::npos || end < begin) return shown;
  return shown.substr(begin + 1, end - begin - 1);
}

}  // namespace

Result<std::pair<std::string, std::string>> parse_queue_setting(std::string_view text) {
  std::size_t equals = text.find('=');
  std::string_view key = text.substr(0, equals);
  const bool known = std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end();
  const bool sound = known && equals != std::string_view::npos && equals + 1 < text.size() &&
                     text.find_first_of(" \t\n", equals) == std::string_view::npos;
  if (sound) return std::pair(std::string(key), std::string(text.substr(equals + 1)));
  return attach_error(ExitCode::usage,
                      fmt::format("--queue={}: must be KEY=VALUE, and KEY one of {}", text,
                                  fmt::join(kKeys, ", ")));
}

Result<std::vector<QueueSetting>> queue_settings(const QueueNeeds& needs,
                                                 std::uint64_t hardware_kb) {
  Settings settings(needs);
  const std::uint64_t longest_kb = longest_request_kb(needs, hardware_kb);
  if (const std::string* wanted = settings.choice(kRequestKey)) {
    NBDKIT_TRY(check_request_size(*wanted, longest_kb));
  }
  const std::uint64_t limit = needs.swap ? kSwapRequestMax : kRequestMax;
  settings.add(kRequestKey, std::to_string(std::min(longest_kb, limit / kKiB)));
  // Whether to wait for a better order is for the server to decide, which knows what is below it.
  // One that is there already would keep what was set inside it.
  if (settings.choice("scheduler") != nullptr) settings.add_fixed("queue/scheduler", "none");
  settings.add("scheduler", "none");
  // Another scheduler has its own.
  const std::string* scheduler = settings.choice("scheduler");
  const bool alone = scheduler == nullptr || *scheduler == "none";
  if (alone || settings.choice("nr_requests") != nullptr) settings.add("nr_requests", kRequests);
  settings.add("rotational", needs.rotational ? "1" : "0");
  settings.add("read_ahead_kb", std::to_string(read_ahead_kb(needs)));
  settings.add("nomerges", "0");
  settings.add("rq_affinity", "1");
  settings.add("iostats", "1");
  // This one holds writes back by itself.
  const bool fair = scheduler != nullptr && *scheduler == "bfq";
  if (!fair || settings.choice("wbt_lat_usec") != nullptr) {
    settings.add("wbt_lat_usec", needs.rotational ? "75000" : "2000");
  }
  settings.add_fixed("queue/add_random", "0");
  settings.add_fixed("queue/stable_writes", "0");
  // Whoever set it to "write through" would keep the next user's flushes from us.
  if (needs.flush) settings.add_fixed("queue/write_cache", "write back");
  settings.add_fixed("bdi/min_ratio", "0");
  settings.add_fixed("bdi/max_ratio", "100");
  settings.add_fixed("bdi/strict_limit", "0");
  return settings.take();
}

Result<std::vector<std::string>> set_queue(const Sysfs& sysfs, std::uint32_t index,
                                           const QueueNeeds& needs) {
  Result<std::uint64_t> hardware =
      parse_unsigned(sysfs.attribute(index, "queue/max_hw_sectors_kb").value_or("0"),
                     std::numeric_limits<std::uint32_t>::max());
  Result<std::vector<QueueSetting>> settings =
      queue_settings(needs, hardware.ok() ? hardware.value() : 0);
  if (!settings.ok()) return std::move(settings).error();
  std::vector<std::string> failures;
  for (const QueueSetting& setting : settings.value()) {
    std::optional<std::string> now = sysfs.attribute(index, setting.attribute);
    // Not every kernel has each of them.
    if (!now && !setting.chosen) continue;
    if (now && set_value(*now) == setting.value) continue;
    Result<void> done = sysfs.set_attribute(index, setting.attribute, setting.value);
    if (done.ok()) continue;
    if (setting.chosen) {
      return attach_error(ExitCode::invalid_value, "--queue: " + done.error().message());
    }
    failures.push_back(done.error().message());
  }
  return failures;
}

}  // namespace nbdkit
