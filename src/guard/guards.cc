// SPDX-License-Identifier: BSD-3-Clause
#include "guard/guards.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <malloc.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "async/child.h"
#include "async/thread.h"
#include "base/unique_fd.h"

namespace nbdkit {
namespace {

// linux/prctl.h has it since Linux 5.6, older headers do not.
constexpr int kSetIoFlusher = 57;

constexpr auto kOomFile = "/proc/self/oom_score_adj";

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// In KiB, of /proc/self/status.
std::uint64_t memory_figure(std::string_view name) {
  std::ifstream file("/proc/self/status");
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with(name)) return std::strtoull(line.c_str() + name.size(), nullptr, 10);
  }
  return 0;
}

bool write_oom_score(const char* score) {
  UniqueFd file(::open(kOomFile, O_WRONLY | O_CLOEXEC));
  std::size_t length = std::strlen(score);
  return file && ::write(file.get(), score, length) == static_cast<ssize_t>(length);
}

void raise_limit(__rlimit_resource resource, rlim_t value) {
  rlimit limit{value, value};
  if (::setrlimit(resource, &limit) == 0) return;
  // As much as may be had without a privilege.
  if (::getrlimit(resource, &limit) != 0) return;
  limit.rlim_cur = std::min(value, limit.rlim_max);
  ::setrlimit(resource, &limit);
}

std::string limit_text(__rlimit_resource resource) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return "unlimited";
  return fmt::format("{}", limit.rlim_cur);
}

void limit_realtime() {
  rlimit limit{};
  ::getrlimit(RLIMIT_RTTIME, &limit);
  limit.rlim_cur = std::min<rlim_t>(Guards::kRealtimeMaxUs, limit.rlim_max);
  ::setrlimit(RLIMIT_RTTIME, &limit);
}

// The kernel sends it to a thread that has had a CPU for too long: better a late answer than a
// machine that nobody else can use.
void demote(int) {
  int saved = errno;
  sched_param parameter{};
  // Who has no privilege may become ordinary, but not take back that its children are.
  ::sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK, &parameter);
  // The kernel has given the process a second more.
  limit_realtime();
  errno = saved;
}

// malloc keeps what it has, and does not go to the kernel for a thread or for a size.
void settle_malloc() {
  ::mallopt(M_ARENA_MAX, 1);
  ::mallopt(M_TRIM_THRESHOLD, -1);
  ::mallopt(M_MMAP_THRESHOLD, 32 << 20);
  void* warm = std::malloc(Guards::kWarmBytes);
  if (warm == nullptr) return;
  std::memset(warm, 1, Guards::kWarmBytes);
  asm volatile("" : : "r"(warm) : "memory");  // Or the three calls are none.
  std::free(warm);
}

[[gnu::noinline]] void touch_stack() {
  volatile char stack[Guards::kStackSize / 2];
  for (std::size_t i = 0; i < sizeof(stack); i += 4096) stack[i] = 0;
}

std::string realtime_problem() {
  if (first_line("/proc/sys/kernel/sched_rt_runtime_us") == "-1") {
    return "kernel.sched_rt_runtime_us is -1, so a thread that never waits would keep its CPU for "
           "ever";
  }
  sched_param parameter{};
  parameter.sched_priority = Thread::kRealtimePriority;
  if (::sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &parameter) == 0) return {};
  if (errno != EPERM) return os_error("sched_setscheduler").message();
  if (limit_text(RLIMIT_RTPRIO) != "0" || ::geteuid() == 0) {
    return "the kernel refuses it: no CAP_SYS_NICE, or a cgroup without a budget of real time "
           "(cpu.rt_runtime_us)";
  }
  return "RLIMIT_RTPRIO is 0";
}

Guard parse_guard(const Json& json) {
  Guard guard;
  auto text = [&json](std::string_view key) {
    const Json* value = json.find(key);
    return value != nullptr && value->as_string() != nullptr ? *value->as_string() : std::string();
  };
  guard.name = text("guard");
  guard.wanted = text("wanted");
  guard.got = text("got");
  guard.why_not = text("why_not");
  guard.remedy = text("remedy");
  return guard;
}

}  // namespace

bool Guards::complete() const {
  return std::none_of(guards_.begin(), guards_.end(),
                      [](const Guard& guard) { return guard.missing(); });
}

std::string Guards::missing() const {
  std::string text;
  for (const Guard& guard : guards_) {
    if (!guard.missing()) continue;
    text += fmt::format("{}{}: {} ({})", text.empty() ? "" : "; ", guard.name, guard.why_not,
                        guard.remedy);
  }
  return text;
}

void Guards::take_rights() {
  flush_flag();
  spare_from_oom();
  raise_limit(RLIMIT_MEMLOCK, RLIM_INFINITY);
  raise_limit(RLIMIT_RTPRIO, Thread::kRealtimePriority);
}

void Guards::flush_flag() {
  Guard guard{"io-flusher", "PR_SET_IO_FLUSHER", "set", {}, "CAP_SYS_RESOURCE"};
  if (::prctl(kSetIoFlusher, 1, 0, 0, 0) != 0) {
    guard.got = "not set";
    guard.why_not = errno == EINVAL ? "this kernel is older than 5.6"
                                    : "the capability CAP_SYS_RESOURCE is missing";
    if (errno == EINVAL) guard.remedy = "a newer kernel";
  }
  add(std::move(guard));
}

void Guards::spare_from_oom() {
  Guard guard{"oom-score", "-1000", {}, {}, "CAP_SYS_RESOURCE; in a unit: OOMScoreAdjust=-1000"};
  if (!write_oom_score("-1000")) guard.why_not = "the capability CAP_SYS_RESOURCE is missing";
  guard.got = first_line(kOomFile);
  if (guard.got == "-1000") guard.why_not.clear();
  add(std::move(guard));
}

void Guards::lock() {
  make_children_ordinary();
  ThreadPolicy policy;
  policy.stack_size = kStackSize;
  Thread::set_policy(policy);
  lock_memory();
  be_realtime();
  policy.realtime = !guards_.back().missing();
  Thread::set_policy(policy);
}

void Guards::lock_memory() {
  Guard guard{"memory-lock", "mlockall", {}, {}, "CAP_IPC_LOCK; in a unit: LimitMEMLOCK=infinity"};
  settle_malloc();
  touch_stack();
  if (::mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
    guard.why_not = fmt::format("the kernel refuses it: RLIMIT_MEMLOCK is {} bytes",
                                limit_text(RLIMIT_MEMLOCK));
    ::munlockall();
  }
  guard.got = fmt::format("{} KiB locked", memory_figure("VmLck:"));
  add(std::move(guard));
}

void Guards::be_realtime() {
  Guard guard{"real-time", "SCHED_FIFO 1", "set", {}, "CAP_SYS_NICE; in a unit: LimitRTPRIO=1"};
  struct sigaction action {};
  action.sa_handler = &demote;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGXCPU, &action, nullptr);
  limit_realtime();
  guard.why_not = realtime_problem();
  if (guard.missing()) guard.got = "ordinary";
  if (guard.why_not.starts_with("kernel."))
    guard.remedy = "sysctl kernel.sched_rt_runtime_us=950000";
  add(std::move(guard));
}

void Guards::bound() {
  Guard guard{"memory-bound", "RLIMIT_DATA", {}, {}, "a higher hard limit of data (ulimit -Hd)"};
  rlimit limit{};
  ::getrlimit(RLIMIT_DATA, &limit);
  const rlim_t wanted = memory_figure("VmData:") * 1024 + kMarginBytes;
  if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < wanted) {
    guard.why_not = "the hard limit is lower than what is in use and the margin";
  } else {
    limit.rlim_cur = wanted;
    if (::setrlimit(RLIMIT_DATA, &limit) != 0) guard.why_not = os_error("setrlimit").message();
  }
  guard.got = fmt::format("{} bytes", limit_text(RLIMIT_DATA));
  add(std::move(guard));
}

Json to_json(std::span<const Guard> guards) {
  Json array = Json::array();
  for (const Guard& guard : guards) {
    Json json = Json::object();
    json.set("guard", guard.name)
        .set("wanted", guard.wanted)
        .set("got", guard.got)
        .set("why_not", guard.missing() ? Json(guard.why_not) : Json())
        .set("remedy", guard.remedy);
    array.push(std::move(json));
  }
  return array;
}

Result<std::vector<Guard>> parse_guards(const Json& json) {
  if (json.as_array() == nullptr) {
    return Error(std::errc::protocol_error, "the guards are no list");
  }
  std::vector<Guard> guards;
  for (const Json& item : *json.as_array()) guards.push_back(parse_guard(item));
  return guards;
}

std::string describe(std::span<const Guard> guards) {
  std::string text = fmt::format("{:<14} {:<18} {:<20} {}\n", "GUARD", "WANTED", "GOT", "MISSING");
  for (const Guard& guard : guards) {
    std::string missing =
        guard.missing() ? fmt::format("{}; needs: {}", guard.why_not, guard.remedy) : "-";
    text += fmt::format("{:<14} {:<18} {:<20} {}\n", guard.name, guard.wanted, guard.got, missing);
  }
  return text;
}

Result<std::vector<Guard>> try_guards() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return os_error("pipe");
  UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  pid_t pid = ::fork();
  if (pid < 0) return os_error("fork");
  if (pid == 0) {
    Guards guards;
    guards.take_rights();
    guards.lock();
    guards.bound();
    std::string text = to_json(guards.all()).dump();
    ssize_t written = ::write(out.get(), text.data(), text.size());
    ::_exit(written == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  out.reset();
  std::string text;
  char buffer[4096];
  for (;;) {
    ssize_t length = ::read(in.get(), buffer, sizeof(buffer));
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) break;
    text.append(buffer, static_cast<std::size_t>(length));
  }
  siginfo_t info;
  while (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED) < 0 && errno == EINTR) {
  }
  Result<Json> json = Json::parse(text);
  if (!json.ok()) return std::move(json).error();
  return parse_guards(json.value());
}

}  // namespace nbdkit
