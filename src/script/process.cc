// SPDX-License-Identifier: BSD-3-Clause
#include "script/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "async/child.h"
#include "base/unique_fd.h"

namespace nbdkit {
namespace {

// linux/prctl.h has it since Linux 5.6, older headers do not.
constexpr int kSetIoFlusher = 57;
constexpr int kNoProgram = 127;
constexpr std::size_t kPieceMax = 64 * 1024;

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

Result<Pipe> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return os_error("pipe");
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

// Everything that the child needs, made before: it shares our memory until it is another program.
struct Plan {
  std::vector<char*> arguments;
  std::vector<char*> shell;  // when it is no program
  std::vector<char*> environment;
  std::array<int, 3> standard{};
  int error = 0;  // why there will be no program
};

Plan make_plan(const ProcessRun& run, std::array<int, 3> standard) {
  Plan plan;
  auto text = [](const std::string& one) { return const_cast<char*>(one.c_str()); };
  plan.shell.push_back(const_cast<char*>("/bin/sh"));
  for (const std::string& argument : run.arguments) {
    plan.arguments.push_back(text(argument));
    plan.shell.push_back(text(argument));
  }
  for (const std::string& variable : run.environment) plan.environment.push_back(text(variable));
  plan.arguments.push_back(nullptr);
  plan.shell.push_back(nullptr);
  plan.environment.push_back(nullptr);
  plan.standard = standard;
  return plan;
}

// Only system calls are allowed from here on: the parent's memory is in use.
[[noreturn, gnu::noinline]] void become_program(Plan& plan, const sigset_t& none) {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) ::sigaction(number, &action, nullptr);
  ::prctl(kSetIoFlusher, 0, 0, 0, 0);
  make_child_ordinary(0);
  bool placed = true;
  // None of them is one of 0 to 2, which the server always has open.
  for (int to = 0; to < 3; ++to) placed = placed && ::dup2(plan.standard[to], to) == to;
  if (placed) {
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execve(plan.arguments[0], plan.arguments.data(), plan.environment.data());
    if (errno == ENOEXEC) ::execve(plan.shell[0], plan.shell.data(), plan.environment.data());
  }
  plan.error = errno;
  ::_exit(kNoProgram);
}

// No signal may come while the child runs in our memory: a handler of the server would run there.
pid_t start(Plan& plan) {
  sigset_t all;
  sigset_t old;
  sigset_t none;
  ::sigfillset(&all);
  ::sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &all, &old);
  pid_t pid = ::vfork();
  if (pid == 0) become_program(plan, none);
  int error = errno;
  ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
  errno = error;
  return pid;
}

// The server's side of the three pipes.
class Conversation {
 public:
  Conversation(const ProcessRun& run, ProcessEnd& end, UniqueFd input, UniqueFd output,
               UniqueFd errors)
      : run_(run),
        end_(end),
        input_(std::move(input)),
        output_(std::move(output)),
        errors_(std::move(errors)) {}

  // Until the program, and whoever has inherited its descriptors, have closed them.
  void hold() {
    if (input_) ::fcntl(input_.get(), F_SETFL, O_NONBLOCK);
    while (input_ || output_ || errors_) {
      // poll() skips what is negative. When nobody can read the input any more, that is told too.
      std::array<pollfd, 3> fds{pollfd{input_.get(), POLLOUT, 0}, pollfd{output_.get(), POLLIN, 0},
                                pollfd{errors_.get(), POLLIN, 0}};
      if (::poll(fds.data(), fds.size(), -1) < 0) continue;
      if (fds[0].revents != 0) give_input();
      if (fds[1].revents != 0) take_output();
      if (fds[2].revents != 0) take_errors();
    }
    end_.input_refused = given_ < run_.input.size();
  }

 private:
  void give_input() {
    ssize_t written = ::write(input_.get(), run_.input.data() + given_, run_.input.size() - given_);
    if (written >= 0) given_ += static_cast<std::size_t>(written);
    if (written < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (written < 0 || given_ == run_.input.size()) input_.reset();
  }

  void take_output() {
    if (run_.output.empty()) {
      end_.too_much = take_text(output_, end_.text, ProcessRun::kTextMax);
      end_.received = end_.text.size();
    } else {
      take_bytes();
    }
    if (end_.too_much) output_.reset();  // It is told by SIGPIPE.
  }

  void take_bytes() {
    std::byte extra;
    std::span<std::byte> room = run_.output.subspan(end_.received);
    const bool full = room.empty();
    if (full) room = std::span(&extra, 1);
    ssize_t got = ::read(output_.get(), room.data(), room.size());
    if (got < 0 && errno == EINTR) return;
    if (got <= 0) return output_.reset();
    if (full) {
      end_.too_much = true;
    } else {
      end_.received += static_cast<std::size_t>(got);
    }
  }

  void take_errors() { (void)take_text(errors_, end_.errors, ProcessRun::kErrorsMax); }

  // Whether there was more than `max`.
  static bool take_text(UniqueFd& from, std::string& text, std::size_t max) {
    std::array<char, kPieceMax> piece;
    ssize_t got = ::read(from.get(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) return false;
    if (got <= 0) {
      from.reset();
      return false;
    }
    std::size_t length = std::min(static_cast<std::size_t>(got), max - text.size());
    text.append(piece.data(), length);
    return length < static_cast<std::size_t>(got);
  }

  const ProcessRun& run_;
  ProcessEnd& end_;
  UniqueFd input_;
  UniqueFd output_;
  UniqueFd errors_;
  std::size_t given_ = 0;
};

void wait_for(pid_t pid, ProcessEnd& end) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  end.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  end.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace

Result<ProcessEnd> run_process(const ProcessRun& run) {
  Pipe input;
  if (run.input.empty()) {
    input.read.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!input.read) return os_error("/dev/null");
  } else {
    Result<Pipe> made = make_pipe();
    if (!made.ok()) return std::move(made).error();
    input = std::move(made).value();
  }
  Result<Pipe> output = make_pipe();
  if (!output.ok()) return std::move(output).error();
  Result<Pipe> errors = make_pipe();
  if (!errors.ok()) return std::move(errors).error();

  Plan plan =
      make_plan(run, {input.read.get(), output.value().write.get(), errors.value().write.get()});
  pid_t pid = start(plan);
  if (pid < 0) return os_error(fmt::format("{}: fork", run.arguments[0]));
  input.read.reset();
  output.value().write.reset();
  errors.value().write.reset();
  ProcessEnd end;
  Conversation(run, end, std::move(input.write), std::move(output.value().read),
               std::move(errors.value().read))
      .hold();
  wait_for(pid, end);
  if (plan.error != 0) return os_error(run.arguments[0], plan.error);
  return end;
}

}  // namespace nbdkit
