// SPDX-License-Identifier: BSD-3-Clause
#include "attach/surroundings.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>

namespace nbdkit {
namespace {

constexpr auto kOomFile = "/proc/self/oom_score_adj";
constexpr std::size_t kGroupsMax = 65536;  // NGROUPS_MAX of Linux
constexpr int kOomMax = 1000;

std::vector<gid_t> our_groups() {
  std::vector<gid_t> groups;
  int count = ::getgroups(0, nullptr);
  if (count > 0) groups.resize(static_cast<std::size_t>(count));
  count = ::getgroups(static_cast<int>(groups.size()), groups.data());
  groups.resize(static_cast<std::size_t>(std::max(count, 0)));
  std::sort(groups.begin(), groups.end());
  return groups;
}

// -1000 to 1000, without what snprintf() may do.
std::size_t write_number(int number, std::array<char, 8>& text) {
  std::array<char, 8> digits;
  std::size_t count = 0;
  std::size_t length = 0;
  unsigned left = static_cast<unsigned>(std::abs(number));
  do digits[count++] = static_cast<char>('0' + left % 10);
  while ((left /= 10) != 0);
  if (number < 0) text[length++] = '-';
  while (count > 0) text[length++] = digits[--count];
  return length;
}

void set_oom_score(int score) noexcept {
  std::array<char, 8> text{};
  std::size_t length = write_number(score, text);
  int file = ::open(kOomFile, O_WRONLY | O_CLOEXEC);
  if (file < 0) return;
  [[maybe_unused]] ssize_t written = ::write(file, text.data(), length);
  ::close(file);
}

std::optional<gid_t> group_of(const Json* json) {
  std::optional<std::uint64_t> number = json != nullptr ? json->as_unsigned() : std::nullopt;
  if (!number || *number >= std::numeric_limits<gid_t>::max()) return {};
  return static_cast<gid_t>(*number);
}

std::optional<Surroundings::Groups> parse_groups(const Json& json) {
  std::optional<gid_t> own = group_of(json.find("group"));
  const Json* more = json.find("groups");
  if (!own || more == nullptr || more->as_array() == nullptr) return {};
  Surroundings::Groups groups{*own, {}};
  for (const Json& item : *more->as_array()) {
    std::optional<gid_t> group = group_of(&item);
    if (!group || groups.more.size() >= kGroupsMax) return {};
    groups.more.push_back(*group);
  }
  return groups;
}

std::optional<std::array<rlimit, Surroundings::kLimits>> parse_limits(const Json* json) {
  const Json::Array* items = json != nullptr ? json->as_array() : nullptr;
  if (items == nullptr || items->size() != 2 * Surroundings::kLimits) return {};
  std::array<rlimit, Surroundings::kLimits> limits{};
  for (std::size_t i = 0; i < limits.size(); ++i) {
    std::optional<std::uint64_t> soft = (*items)[2 * i].as_unsigned();
    std::optional<std::uint64_t> hard = (*items)[2 * i + 1].as_unsigned();
    if (!soft || !hard) return {};
    limits[i] = {*soft, *hard};
  }
  return limits;
}

}  // namespace

Surroundings Surroundings::ours() {
  Surroundings ours;
  ours.limits.emplace();
  for (std::size_t i = 0; i < kLimits; ++i) {
    if (::prlimit(0, static_cast<__rlimit_resource>(i), nullptr, &(*ours.limits)[i]) != 0) {
      ours.limits.reset();
      break;
    }
  }
  int score = 0;
  if (std::ifstream(kOomFile) >> score) ours.oom_score = score;
  ours.groups = Groups{::getgid(), our_groups()};
  return ours;
}

void Surroundings::apply() const noexcept {
  if (oom_score) set_oom_score(*oom_score);
  for (std::size_t i = 0; limits && i < kLimits; ++i) {
    ::prlimit(0, static_cast<__rlimit_resource>(i), &(*limits)[i], nullptr);
  }
  if (!groups) return;
  // Those of the C library tell threads that a child after fork() does not have.
  ::syscall(SYS_setgroups, groups->more.size(), groups->more.data());
  ::syscall(SYS_setgid, groups->own);
}

Json to_json(const Surroundings& surroundings) {
  Json json = Json::object();
  if (surroundings.limits) {
    Json limits = Json::array();
    for (const rlimit& limit : *surroundings.limits) {
      limits.push(std::uint64_t{limit.rlim_cur}).push(std::uint64_t{limit.rlim_max});
    }
    json.set("limits", std::move(limits));
  }
  if (surroundings.oom_score) json.set("oom_score", *surroundings.oom_score);
  if (!surroundings.groups) return json;
  Json more = Json::array();
  for (gid_t group : surroundings.groups->more) more.push(group);
  return json.set("group", surroundings.groups->own).set("groups", std::move(more));
}

Surroundings parse_surroundings(const Json& json) {
  Surroundings parsed;
  parsed.limits = parse_limits(json.find("limits"));
  parsed.groups = parse_groups(json);
  const Json* score = json.find("oom_score");
  std::optional<std::int64_t> number = score != nullptr ? score->as_signed() : std::nullopt;
  if (number && *number >= -kOomMax && *number <= kOomMax) {
    parsed.oom_score = static_cast<int>(*number);
  }
  return parsed;
}

}  // namespace nbdkit
