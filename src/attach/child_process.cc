// SPDX-License-Identifier: BSD-3-Clause
#include "attach/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <utility>

namespace nbdkit {
namespace {

// Everything that the child needs, made before the fork: other threads may hold any lock then.
struct Plan {
  const char* program;
  int pinned;
  const char* folder;
  std::optional<unsigned> file_mask;
  std::vector<char*> environment;
  std::vector<char*> argv;
  std::vector<ProcessRequest::Descriptor> descriptors;  // by `to`, each once
  std::vector<int> moved;                               // room for one number each
  int first_free = 3;                                   // above every `to`
  bool no_new_privileges = false;
  const Surroundings* surroundings = nullptr;
};

Plan make_plan(const ProcessRequest& request, int null_fd) {
  Plan plan;
  plan.program = request.program.c_str();
  plan.pinned = request.pinned;
  plan.folder = request.folder.empty() ? "." : request.folder.c_str();
  plan.file_mask = request.file_mask;
  for (char** variable = environ; request.environment == nullptr && *variable != nullptr;) {
    plan.environment.push_back(*variable++);
  }
  if (request.environment != nullptr) {
    for (const std::string& variable : *request.environment) {
      plan.environment.push_back(const_cast<char*>(variable.c_str()));
    }
  }
  plan.environment.push_back(nullptr);
  for (const std::string& argument : request.arguments) {
    plan.argv.push_back(const_cast<char*>(argument.c_str()));
  }
  plan.argv.push_back(nullptr);
  plan.descriptors = request.descriptors;
  for (int standard = 0; standard < 3; ++standard) {
    bool named = std::any_of(plan.descriptors.begin(), plan.descriptors.end(),
                             [&](const auto& descriptor) { return descriptor.to == standard; });
    if (!named) plan.descriptors.push_back({null_fd, standard});
  }
  std::sort(plan.descriptors.begin(), plan.descriptors.end(),
            [](const auto& a, const auto& b) { return a.to < b.to; });
  plan.moved.resize(plan.descriptors.size());
  plan.first_free = plan.descriptors.back().to + 1;
  plan.no_new_privileges = request.no_new_privileges;
  plan.surroundings = request.surroundings;
  return plan;
}

// Why there will be no program; negative: because of the folder. The end of the pipe without a word
// is success.
void tell(int pipe, int error) {
  while (::write(pipe, &error, sizeof(error)) < 0 && errno == EINTR) {
  }
}

void reset_signals() {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) ::sigaction(number, &action, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

// Everything goes out of the way first: a descriptor may come from where another one has to go.
bool place_descriptors(Plan& plan) {
  for (std::size_t i = 0; i < plan.descriptors.size(); ++i) {
    plan.moved[i] = ::fcntl(plan.descriptors[i].from, F_DUPFD_CLOEXEC, plan.first_free);
    if (plan.moved[i] < 0) return false;
  }
  int next = 0;
  for (std::size_t i = 0; i < plan.descriptors.size(); ++i) {
    int to = plan.descriptors[i].to;
    if (to > next) ::close_range(next, to - 1, CLOSE_RANGE_CLOEXEC);
    if (::dup2(plan.moved[i], to) < 0) return false;
    next = to + 1;
  }
  ::close_range(next, ~0u, CLOSE_RANGE_CLOEXEC);
  return true;
}

// A kernel before 6.14 would name the process by the descriptor: only when the path is no good.
void run_program(const Plan& plan, int pinned) {
  struct stat named {};
  struct stat meant {};
  bool same = pinned >= 0 && ::fstat(pinned, &meant) == 0 && ::stat(plan.program, &named) == 0 &&
              named.st_dev == meant.st_dev && named.st_ino == meant.st_ino;
  if (pinned >= 0 && !same) {
    ::syscall(SYS_execveat, pinned, "", plan.argv.data(), plan.environment.data(), AT_EMPTY_PATH);
    return;
  }
  ::execve(plan.program, plan.argv.data(), plan.environment.data());
}

// Only what is safe in a signal handler is allowed from here on.
[[noreturn]] void become_program(Plan& plan, int pipe) noexcept {
  reset_signals();
  ::setsid();
  int out = ::fcntl(pipe, F_DUPFD_CLOEXEC, plan.first_free);
  int pinned = plan.pinned >= 0 ? ::fcntl(plan.pinned, F_DUPFD_CLOEXEC, plan.first_free) : -1;
  bool ready = out >= 0 && (plan.pinned < 0 || pinned >= 0) && place_descriptors(plan);
  if (ready && plan.surroundings != nullptr) plan.surroundings->apply();
  if (ready && plan.no_new_privileges) ready = ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
  if (plan.file_mask) ::umask(static_cast<mode_t>(*plan.file_mask));
  if (ready && ::chdir(plan.folder) < 0) {
    tell(out, -errno);
    ::_exit(127);
  }
  if (ready) run_program(plan, pinned);
  tell(out >= 0 ? out : pipe, errno);
  ::_exit(127);
}

}  // namespace

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      pidfd_(std::move(other.pidfd_)),
      ours_(other.ours_),
      status_(other.status_) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  if (this == &other) return *this;
  abandon();
  pid_ = std::exchange(other.pid_, -1);
  pidfd_ = std::move(other.pidfd_);
  ours_ = other.ours_;
  status_ = other.status_;
  return *this;
}

ChildProcess::~ChildProcess() { abandon(); }

void ChildProcess::abandon() {
  if (pid_ < 0 || ended()) return;
  signal(SIGKILL);
}

ChildProcess ChildProcess::adopt(pid_t pid, UniqueFd pidfd) {
  return ChildProcess(pid, std::move(pidfd), false);
}

Result<ChildProcess> ChildProcess::start(const ProcessRequest& request) {
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return os_error("/dev/null");
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) return os_error("pipe");
  UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  Plan plan = make_plan(request, null.get());

  pid_t pid = ::fork();
  if (pid < 0) return os_error("fork");
  if (pid == 0) become_program(plan, out.get());
  out.reset();
  // Nobody else reaps our children, so the number still means this one.
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  int why = errno;
  ChildProcess child(pid, std::move(pidfd), true);
  if (!child.pidfd_) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    child.pid_ = -1;
    return os_error("pidfd_open", why);
  }

  int error = 0;
  ssize_t length;
  do {
    length = ::read(in.get(), &error, sizeof(error));
  } while (length < 0 && errno == EINTR);
  if (length != static_cast<ssize_t>(sizeof(error))) return child;
  child.wait(Seconds(10));
  return error < 0 ? os_error(request.folder, -error) : os_error(request.program, error);
}

void ChildProcess::signal(int number) const {
  ::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0);
}

std::optional<int> ChildProcess::ended() {
  int status = 0;
  if (!ours_) {
    pollfd poll{pidfd_.get(), POLLIN, 0};
    if (::poll(&poll, 1, 0) == 1) status_ = kUnknownEnd;
  } else if (!status_ && ::waitpid(pid_, &status, WNOHANG) == pid_) {
    status_ = status;
  }
  return status_;
}

std::optional<int> ChildProcess::wait(Milliseconds limit) {
  pollfd poll{pidfd_.get(), POLLIN, 0};
  if (!status_) ::poll(&poll, 1, static_cast<int>(limit.count()));
  return ended();
}

std::string describe_exit(int wait_status) {
  if (wait_status == ChildProcess::kUnknownEnd) return "has ended";
  if (WIFSIGNALED(wait_status)) {
    int number = WTERMSIG(wait_status);
    const char* name = ::sigdescr_np(number);
    return fmt::format("was killed by signal {} ({})", number, name != nullptr ? name : "unknown");
  }
  return fmt::format("exited with status {}", WEXITSTATUS(wait_status));
}

}  // namespace nbdkit
