// SPDX-License-Identifier: BSD-3-Clause
#include "main/attach_scope.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

constexpr std::string_view kPrefix = "nbdkit-attach-";
constexpr std::string_view kSuffix = ".scope";
// Not from PATH: this runs as root.
constexpr std::array kSystemdRun{"/usr/bin/systemd-run", "/bin/systemd-run"};

Error cannot(std::string_view why) {
  return attach_error(ExitCode::not_supported, fmt::format("--scope: {}", why));
}

Error cannot(const std::string& what, std::string_view remedy) {
  Error error = os_error("--scope: " + what);
  return Error(error.code, fmt::format("{}; {}", error.message(), remedy));
}

bool is_scope(std::string_view name) {
  return name.starts_with(kPrefix) && name.ends_with(kSuffix);
}

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Of cgroup2: "0::/a/b".
std::string own_cgroup() {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("0::")) return line.substr(3);
  }
  return {};
}

bool in_scope() {
  std::string path = own_cgroup();
  return is_scope(std::string_view(path).substr(path.rfind('/') + 1));
}

// The kernel's number for the machine's own namespace of processes.
bool sees_all_processes() {
  constexpr ino_t kMachine = 0xeffffffc;
  struct stat status;
  return ::stat("/proc/self/ns/pid", &status) == 0 && status.st_ino == kMachine;
}

Result<OwnScope> begin_anew_under_systemd(char* const* argv) {
  // It is told of a process by its number.
  if (first_line("/proc/1/comm") != "systemd") {
    return cannot(
        "systemd cannot be asked from another process namespace; use the machine's "
        "(hostPID)");
  }
  std::error_code error;
  std::string self = std::filesystem::read_symlink("/proc/self/exe", error).string();
  if (error) return cannot("/proc/self/exe: " + error.message());
  std::vector<std::string> words{"systemd-run",
                                 "--scope",
                                 "--quiet",
                                 "--collect",
                                 "--description=nbdkit-attach",
                                 fmt::format("--unit={}{}{}", kPrefix, ::getpid(), kSuffix),
                                 "--",
                                 self};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  for (char* const* word = argv + 1; *word != nullptr; ++word) arguments.push_back(*word);
  arguments.push_back(nullptr);
  for (const char* program : kSystemdRun) ::execv(program, arguments.data());
  return cannot("systemd-run", "systemd runs here, and only it may make a scope");
}

// The machine's whole tree, wherever it is mounted: only its root has no events.
std::string find_root() {
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    std::size_t type = line.find(" - ");
    if (type == std::string::npos || !line.substr(type + 3).starts_with("cgroup2 ")) continue;
    std::istringstream fields(line);
    std::string place;
    for (int i = 0; i < 5; ++i) fields >> place;
    const bool has_processes = ::access((place + "/cgroup.procs").c_str(), F_OK) == 0;
    if (has_processes && ::access((place + "/cgroup.events").c_str(), F_OK) != 0) return place;
  }
  return {};
}

Result<void> move_to(const std::string& cgroup) {
  const std::string file = cgroup + "/cgroup.procs";
  UniqueFd processes(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
  if (!processes || ::write(processes.get(), "0", 1) < 0) {
    return cannot(file, "use the machine's cgroup namespace, with all rights");
  }
  return {};
}

// Of keepers that were killed. The kernel keeps those in which somebody is.
void remove_abandoned(const std::string& root) {
  DIR* folder = ::opendir(root.c_str());
  if (folder == nullptr) return;
  while (const dirent* entry = ::readdir(folder)) {
    if (is_scope(entry->d_name)) ::rmdir(fmt::format("{}/{}", root, entry->d_name).c_str());
  }
  ::closedir(folder);
}

// A process in a cgroup namespace may not leave what that shows, even where more is mounted.
void join_machine_namespace() {
  UniqueFd all(::open("/proc/1/ns/cgroup", O_RDONLY | O_CLOEXEC));
  if (all) ::setns(all.get(), CLONE_NEWCGROUP);
}

}  // namespace

Result<OwnScope> OwnScope::prepare(char* const* argv, bool is_service) {
  if (in_scope()) return OwnScope();
  if (is_service) return cannot("a service has a cgroup of its own, which it must not leave");
  if (::access("/run/systemd/system", F_OK) == 0) return begin_anew_under_systemd(argv);
  if (!sees_all_processes()) {
    return cannot(
        "whatever is in a process namespace ends with its first process; use the "
        "machine's (hostPID)");
  }
  join_machine_namespace();
  std::string root = find_root();
  if (root.empty()) {
    return cannot(
        "the machine's cgroups cannot be seen here; mount all of cgroup2, such as "
        "/sys/fs/cgroup of the machine");
  }
  return OwnScope(std::move(root));
}

Result<void> OwnScope::join() {
  if (root_.empty()) return {};
  remove_abandoned(root_);
  std::string folder = fmt::format("{}/{}{}{}", root_, kPrefix, ::getpid(), kSuffix);
  if (::mkdir(folder.c_str(), 0755) < 0) {
    return cannot(folder, "mount the machine's cgroups so that they can be written");
  }
  folder_ = std::move(folder);
  return move_to(folder_);
}

void OwnScope::leave() {
  if (folder_.empty()) return;
  if (in_scope() && !move_to(root_).ok()) return;
  ::rmdir(folder_.c_str());
  folder_.clear();
}

}  // namespace nbdkit
