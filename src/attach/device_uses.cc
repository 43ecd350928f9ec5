// SPDX-License-Identifier: BSD-3-Clause
#include "attach/device_uses.h"

#include <dirent.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <string_view>

namespace nbdkit {
namespace {

constexpr std::size_t kNamedMax = 4;

// The disk and its partitions: node and "major:minor".
struct Node {
  std::string path;
  std::string number;
};

std::vector<std::string> list_folder(const std::string& path) {
  std::vector<std::string> names;
  std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
  if (!folder) return names;
  while (const dirent* entry = ::readdir(folder.get())) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::vector<Node> nodes_of(const KernelFiles& files, const NbdDevice& device) {
  std::string name = fmt::format("nbd{}", device.index);
  std::string folder = fmt::format("{}/block/{}", files.sys, name);
  std::vector<Node> nodes{{"/dev/" + name, first_line(folder + "/dev")}};
  for (const NbdPartition& partition : device.partitions) {
    nodes.push_back({"/dev/" + partition.name, first_line(folder + "/" + partition.name + "/dev")});
  }
  return nodes;
}

// Blanks and backslashes are written as \ooo in /proc.
std::string unescape(std::string_view text) {
  auto octal = [&](std::size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '7'; };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && octal(i + 1) && octal(i + 2) && octal(i + 3)) {
      out.push_back(static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                      (text[i + 3] - '0')));
      i += 3;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

const Node* find_node(const std::vector<Node>& nodes, std::string_view path) {
  for (const Node& node : nodes) {
    if (node.path == path) return &node;
  }
  return nullptr;
}

std::string of_partition(const Node& node, const std::vector<Node>& nodes) {
  return &node == &nodes.front() ? std::string() : node.path + " is ";
}

// A line of mountinfo: "36 35 43:0 / /mnt rw shared:1 - ext4 /dev/nbd0 rw". File systems with
// several devices show a number of their own but name the device behind the dash.
void read_mount(std::string_view line, const std::vector<Node>& nodes, const std::string& where,
                std::vector<DeviceUse>& uses) {
  std::istringstream fields{std::string(line)};
  std::string id, parent, number, root, mount_point, word, kind, source;
  fields >> id >> parent >> number >> root >> mount_point;
  while (fields >> word && word != "-") {
  }
  fields >> kind >> source;
  for (const Node& node : nodes) {
    if (number != node.number && unescape(source) != node.path) continue;
    uses.push_back(
        {DeviceUse::Kind::mounted, fmt::format("{}mounted on {}{}", of_partition(node, nodes),
                                               unescape(mount_point), where)});
  }
}

std::string read_link(const std::string& path) {
  std::array<char, 256> target;
  ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
  return length > 0 ? std::string(target.data(), static_cast<std::size_t>(length)) : std::string();
}

// Containers have mounts that we do not see: one process of every mount namespace is asked.
void find_mounts(const KernelFiles& files, const std::vector<Node>& nodes,
                 std::vector<DeviceUse>& uses) {
  std::set<std::string> seen{read_link(files.proc + "/self/ns/mnt")};
  auto read = [&](const std::string& process, const std::string& where) {
    std::ifstream mounts(files.proc + "/" + process + "/mountinfo");
    for (std::string line; std::getline(mounts, line);) read_mount(line, nodes, where, uses);
  };
  read("self", "");
  for (const std::string& process : list_folder(files.proc)) {
    if (!is_number(process)) continue;
    std::string space = read_link(files.proc + "/" + process + "/ns/mnt");
    if (space.empty() || !seen.insert(space).second) continue;
    read(process, fmt::format(" (in the mount namespace of process {})", process));
  }
}

void find_swap(const KernelFiles& files, const std::vector<Node>& nodes,
               std::vector<DeviceUse>& uses) {
  std::ifstream swaps(files.proc + "/swaps");
  std::string line;
  std::getline(swaps, line);  // the heading
  while (std::getline(swaps, line)) {
    std::string path = unescape(line.substr(0, line.find_first_of(" \t")));
    if (find_node(nodes, path) == nullptr) continue;
    uses.push_back({DeviceUse::Kind::swap, fmt::format("{} is used as swap", path)});
  }
}

// A loop device opens its file inside the kernel, where no process shows it.
void find_loops(const KernelFiles& files, const std::vector<Node>& nodes,
                std::vector<DeviceUse>& uses) {
  for (const std::string& name : list_folder(files.sys + "/block")) {
    if (!name.starts_with("loop")) continue;
    std::string file = first_line(files.sys + "/block/" + name + "/loop/backing_file");
    if (find_node(nodes, file) == nullptr) continue;
    uses.push_back({DeviceUse::Kind::held, fmt::format("{} is held by {}", file, name)});
  }
}

void find_holders(const NbdDevice& device, std::vector<DeviceUse>& uses) {
  auto add = [&](const std::string& what, const std::string& holder) {
    uses.push_back({DeviceUse::Kind::held, fmt::format("{}held by {}", what, holder)});
  };
  for (const std::string& holder : device.holders) add("", holder);
  for (const NbdPartition& partition : device.partitions) {
    for (const std::string& holder : partition.holders) {
      add("/dev/" + partition.name + " is ", holder);
    }
  }
}

bool is_udev(std::string_view command) {
  return command == "(udev-worker)" || command.starts_with("systemd-udevd") || command == "udevd";
}

}  // namespace

std::vector<DeviceUse> find_uses(const KernelFiles& files, const NbdDevice& device) {
  std::vector<Node> nodes = nodes_of(files, device);
  std::vector<DeviceUse> uses;
  find_mounts(files, nodes, uses);
  find_swap(files, nodes, uses);
  find_holders(device, uses);
  find_loops(files, nodes, uses);
  for (const NbdOpener& opener : Sysfs(files.sys, files.proc).openers(device.index)) {
    uses.push_back({DeviceUse::Kind::opened,
                    fmt::format("open in process {} ({})", opener.pid, opener.command),
                    is_udev(opener.command)});
  }
  return uses;
}

std::string describe_uses(const std::vector<DeviceUse>& uses) {
  std::string text;
  for (std::size_t i = 0; i < uses.size() && i < kNamedMax; ++i) {
    if (i > 0) text += "; ";
    text += uses[i].text;
  }
  if (uses.size() > kNamedMax) text += fmt::format("; and {} more", uses.size() - kNamedMax);
  return text;
}

}  // namespace nbdkit
