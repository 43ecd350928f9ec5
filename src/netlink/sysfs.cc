// SPDX-License-Identifier: BSD-3-Clause
#include "netlink/sysfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <memory>

#include "base/unique_fd.h"

namespace nbdkit {
namespace {

constexpr std::size_t kFileMax = 4096;  // One page is the most that an attribute has.
constexpr std::uint64_t kSectorSize = 512;

// The first line; absent when there is no such file.
std::optional<std::string> read_line(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!file) return {};
  std::array<char, kFileMax> buffer;
  ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
  if (got < 0) return {};
  std::string_view text(buffer.data(), static_cast<std::size_t>(got));
  return std::string(text.substr(0, text.find('\n')));
}

// The whole number at the front of `text`, which it is cut off from.
std::optional<std::uint64_t> take_number(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  std::uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return {};
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  auto number = take_number(text);
  if (!text.empty()) return {};
  return number;
}

std::uint64_t read_number(const std::string& path) {
  auto line = read_line(path);
  return line ? parse_number(*line).value_or(0) : 0;
}

std::vector<std::string> list(const std::string& path) {
  struct Close {
    void operator()(DIR* directory) const { ::closedir(directory); }
  };
  std::vector<std::string> names;
  std::unique_ptr<DIR, Close> directory(::opendir(path.c_str()));
  if (!directory) return names;
  while (const dirent* entry = ::readdir(directory.get())) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

dev_t read_device_number(const std::string& path) {
  std::string line = read_line(path).value_or("");
  std::string_view text = line;
  auto major = take_number(text);
  if (!major || text.empty()) return 0;
  text.remove_prefix(1);
  return makedev(static_cast<unsigned>(*major),
                 static_cast<unsigned>(take_number(text).value_or(0)));
}

std::vector<NbdPartition> read_partitions(const std::string& disk, const std::string& name) {
  std::vector<NbdPartition> partitions;
  for (const std::string& entry : list(disk)) {
    if (!entry.starts_with(name + "p")) continue;
    std::string folder = disk + "/" + entry;
    partitions.push_back({entry, read_number(folder + "/start") * kSectorSize,
                          read_number(folder + "/size") * kSectorSize, list(folder + "/holders")});
  }
  std::sort(partitions.begin(), partitions.end(),
            [](const NbdPartition& a, const NbdPartition& b) { return a.start < b.start; });
  return partitions;
}

// Whether an open file's path is the disk's node or one of its partitions'.
bool is_node_of(std::string_view path, std::string_view node) {
  if (!path.starts_with(node)) return false;
  path.remove_prefix(node.size());
  if (path.empty()) return true;
  if (path.front() != 'p') return false;
  return parse_number(path.substr(1)).has_value();
}

// The driver remembers the thread that sent the request, and whoever reads `pid` means a process.
std::int64_t process_of(const std::string& proc, std::int64_t thread) {
  UniqueFd file(::open(fmt::format("{}/{}/status", proc, thread).c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, kFileMax> buffer;
  ssize_t got = file ? ::read(file.get(), buffer.data(), buffer.size()) : 0;
  std::string_view text(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  constexpr std::string_view kKey = "\nTgid:\t";
  std::size_t at = text.find(kKey);
  if (at == std::string_view::npos) return thread;
  text.remove_prefix(at + kKey.size());
  return static_cast<std::int64_t>(take_number(text).value_or(static_cast<std::uint64_t>(thread)));
}

bool has_open(const std::string& descriptors, std::string_view node) {
  for (const std::string& number : list(descriptors)) {
    std::array<char, 256> path;
    ssize_t length = ::readlink((descriptors + "/" + number).c_str(), path.data(), path.size());
    if (length > 0 && is_node_of({path.data(), static_cast<std::size_t>(length)}, node)) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::string NbdDevice::node() const { return fmt::format("/dev/nbd{}", index); }

bool Sysfs::module_loaded() const { return ::access((sys_ + "/module/nbd").c_str(), F_OK) == 0; }

Result<NbdDevice> Sysfs::device(std::uint32_t index) const {
  NbdDevice device;
  device.index = index;
  const std::string name = fmt::format("nbd{}", index);
  const std::string disk = fmt::format("{}/block/{}", sys_, name);
  const std::string queue = disk + "/queue/";
  if (::access(disk.c_str(), F_OK) != 0) {
    return Error(std::errc::no_such_device_or_address,
                 fmt::format("{}: there is no such device", device.node()));
  }
  device.number = read_device_number(disk + "/dev");
  if (auto pid = read_line(disk + "/pid")) {
    device.pid = process_of(proc_, static_cast<std::int64_t>(parse_number(*pid).value_or(0)));
  }
  device.backend = read_line(disk + "/backend").value_or("");
  device.size = read_number(disk + "/size") * kSectorSize;
  device.diskseq = read_number(disk + "/diskseq");
  device.read_only = read_number(disk + "/ro") != 0;
  std::string inflight = read_line(disk + "/inflight").value_or("");
  std::string_view numbers = inflight;
  device.reads_in_flight = take_number(numbers).value_or(0);
  device.writes_in_flight = take_number(numbers).value_or(0);
  device.block_size = read_number(queue + "logical_block_size");
  device.io_timeout_ms = read_number(queue + "io_timeout");
  device.max_sectors_kb = read_number(queue + "max_sectors_kb");
  device.holders = list(disk + "/holders");
  device.partitions = read_partitions(disk, name);
  return device;
}

Result<NbdCounters> Sysfs::counters(std::uint32_t index) const {
  const std::string path = fmt::format("{}/block/nbd{}/stat", sys_, index);
  std::string line = read_line(path).value_or("");
  std::string_view text = line;
  // Of reads, writes and discards each: requests, merged ones, sectors, milliseconds. Behind those
  // of writes: in flight, time in use, time in the queue. Last: flushes and their milliseconds.
  constexpr std::size_t kFields = 17;
  std::array<std::uint64_t, kFields> fields{};
  for (std::uint64_t& field : fields) {
    auto number = take_number(text);
    if (!number) return Error(std::errc::protocol_error, path + ": cannot be understood");
    field = *number;
  }
  auto kind = [&](std::size_t at) {
    return NbdCounters::Kind{fields[at], fields[at + 2] * kSectorSize, fields[at + 3]};
  };
  return NbdCounters{kind(0), kind(4), kind(11), {fields[15], 0, fields[16]}};
}

std::vector<NbdDevice> Sysfs::devices(bool attached_only) const {
  std::vector<NbdDevice> devices;
  for (const std::string& name : list(sys_ + "/block")) {
    auto index = parse_device_name(name);
    if (!index.ok()) continue;
    auto one = device(index.value());
    if (!one.ok()) continue;  // It went meanwhile.
    if (one.value().attached() || !attached_only) devices.push_back(std::move(one).value());
  }
  std::sort(devices.begin(), devices.end(),
            [](const NbdDevice& a, const NbdDevice& b) { return a.index < b.index; });
  return devices;
}

std::string Sysfs::attribute_path(std::uint32_t index, std::string_view name) const {
  return fmt::format("{}/block/nbd{}/{}", sys_, index, name);
}

std::optional<std::string> Sysfs::attribute(std::uint32_t index, std::string_view name) const {
  return read_line(attribute_path(index, name));
}

Result<void> Sysfs::set_attribute(std::uint32_t index, std::string_view name,
                                  std::string_view value) const {
  UniqueFd file(::open(attribute_path(index, name).c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY));
  if (!file || ::write(file.get(), value.data(), value.size()) < 0) {
    return os_error(fmt::format("/dev/nbd{}: setting {} to {}", index, name, value));
  }
  return {};
}

Result<void> Sysfs::set_io_timeout(std::uint32_t index, Milliseconds timeout) const {
  return set_attribute(index, "queue/io_timeout", std::to_string(timeout.count()));
}

std::vector<NbdOpener> Sysfs::openers(std::uint32_t index) const {
  const std::string node = fmt::format("/dev/nbd{}", index);
  std::vector<NbdOpener> openers;
  for (const std::string& entry : list(proc_)) {
    auto pid = parse_number(entry);
    if (!pid || !has_open(fmt::format("{}/{}/fd", proc_, entry), node)) continue;
    openers.push_back({static_cast<std::int64_t>(*pid),
                       read_line(fmt::format("{}/{}/comm", proc_, entry)).value_or("")});
  }
  return openers;
}

Result<std::uint32_t> parse_device_name(std::string_view name) {
  std::string_view digits = name;
  if (digits.starts_with("/dev/")) digits.remove_prefix(5);
  // Minor numbers have 20 bits, and no device has less than one.
  constexpr std::uint64_t kIndexMax = (1u << 20) - 1;
  if (digits.starts_with("nbd")) {
    digits.remove_prefix(3);
    bool plain = !digits.empty() && digits.front() >= '0' && digits.front() <= '9' &&
                 (digits.size() == 1 || digits.front() != '0');
    auto number = plain ? parse_number(digits) : std::nullopt;
    if (number && *number <= kIndexMax) return static_cast<std::uint32_t>(*number);
  }
  return Error(std::errc::invalid_argument,
               fmt::format("{}: not the name of an nbd device (/dev/nbd0, /dev/nbd1 ...)", name));
}

}  // namespace nbdkit
