// SPDX-License-Identifier: BSD-3-Clause
#include "attach/server_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

constexpr Seconds kExplainMax{5};  // between losing its socket and its end

Result<std::pair<UniqueFd, UniqueFd>> make_pair(int type) {
  int ends[2];
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) < 0) return os_error("socketpair");
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

Result<std::pair<UniqueFd, UniqueFd>> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) return os_error("pipe");
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

// The first numbers from 3 on that the plugin's parameters do not name.
ServerDescriptors choose_numbers(const std::vector<int>& named) {
  ServerDescriptors numbers;
  int next = 3;
  for (int* number :
       {&numbers.handoff, &numbers.door, &numbers.kept_memory, &numbers.ledger, &numbers.lock,
        &numbers.options, &numbers.memory, &numbers.program, &numbers.requests}) {
    while (std::binary_search(named.begin(), named.end(), next)) ++next;
    *number = next++;
  }
  return numbers;
}

Task<void> wait_for_process(Loop& loop, int pidfd, Milliseconds limit) {
  co_await loop.blocking([pidfd, limit]() -> Result<void> {
    pollfd poll{pidfd, POLLIN, 0};
    ::poll(&poll, 1, static_cast<int>(limit.count()));
    return {};
  });
}

}  // namespace

ServerProcess::ServerProcess(Loop& loop, KeeperLog& log) : loop_(loop), log_(log) {}

ServerProcess::~ServerProcess() = default;

Result<void> ServerProcess::start(const AttachOptions& options, const ServerResources& resources,
                                  std::function<void()> ended) {
  auto handoff = make_pair(SOCK_SEQPACKET);
  if (!handoff.ok()) return std::move(handoff).error();
  auto words = make_pipe();
  if (!words.ok()) return std::move(words).error();
  std::vector<int> named = named_descriptors(options);
  numbers_ = choose_numbers(named);

  ProcessRequest request;
  request.program = options.server;
  request.pinned = resources.program;
  request.arguments = server_arguments(options, numbers_);
  request.descriptors = {{words.value().second.get(), 2},
                         {handoff.value().second.get(), numbers_.handoff},
                         {resources.kept_memory, numbers_.kept_memory},
                         {resources.kept_memory, numbers_.memory}};
  for (auto [fd, number] :
       {std::pair(resources.door, numbers_.door), std::pair(resources.ledger, numbers_.ledger),
        std::pair(resources.ledger, numbers_.requests), std::pair(resources.lock, numbers_.lock),
        std::pair(resources.options, numbers_.options),
        std::pair(resources.program, numbers_.program)}) {
    if (fd >= 0) request.descriptors.push_back({fd, number});
  }
  for (int number : named) {
    auto found = resources.named.find(number);
    int from = found != resources.named.end() ? found->second : number;
    request.descriptors.push_back({from, number});
  }
  request.file_mask = options.file_mask;
  if (!options.environment.empty()) request.environment = &options.environment;
  request.folder = options.folder;
  request.surroundings = &options.surroundings;
  request.no_new_privileges = !options.user.empty();
  Result<ChildProcess> child = ChildProcess::start(request);
  if (!child.ok()) {
    return attach_error(ExitCode::server_failed,
                        fmt::format("the server cannot be started: {}", child.error().message()));
  }
  child_.emplace(std::move(child).value());
  log_.debug("", "the server is process {}", child_->pid());

  ended_ = std::move(ended);
  words_ = std::move(words.value().first);
  NBDKIT_TRY(watch());
  return talk(std::move(handoff.value().first));
}

Result<void> ServerProcess::talk(UniqueFd control) {
  handoff_ = std::make_unique<HandoffClient>(loop_, std::move(control));
  return handoff_->start([this](Error error) {
    if (!stopping_) log_.debug("", "the server's control socket: {}", error.message());
  });
}

Result<void> ServerProcess::adopt(pid_t pid, UniqueFd process, UniqueFd words, UniqueFd control,
                                  const ServerDescriptors& numbers, std::function<void()> ended) {
  numbers_ = numbers;
  child_.emplace(ChildProcess::adopt(pid, std::move(process)));
  ended_ = std::move(ended);
  words_ = std::move(words);
  NBDKIT_TRY(watch());
  if (!control) return {};
  return talk(std::move(control));
}

Result<void> ServerProcess::watch() {
  end_watch_ = std::make_unique<FdWatch>(loop_, child_->fd(), [this] { check_end(); });
  NBDKIT_TRY(end_watch_->start(EPOLLIN));
  if (!words_) return {};
  ::fcntl(words_.get(), F_SETFL, O_NONBLOCK);
  words_watch_ = std::make_unique<FdWatch>(loop_, words_.get(), [this] { read_lines(); });
  return words_watch_->start(EPOLLIN);
}

void ServerProcess::hang_up() {
  if (handoff_) handoff_->close();
}

void ServerProcess::let_go() {
  stopping_ = true;
  hang_up();
  end_watch_.reset();
  words_watch_.reset();
  if (child_) child_->let_go();
  child_.reset();
}

std::optional<std::int64_t> ServerProcess::pid() const {
  if (!child_ || !end_.empty()) return {};
  return child_->pid();
}

void ServerProcess::read_lines() {
  if (!words_) return;
  std::array<char, 4096> buffer;
  for (;;) {
    ssize_t length = ::read(words_.get(), buffer.data(), buffer.size());
    if (length < 0 && errno == EINTR) continue;
    if (length == 0 && words_watch_) words_watch_->stop();
    if (length <= 0) return;
    partial_.append(buffer.data(), static_cast<std::size_t>(length));
    for (std::size_t end; (end = partial_.find('\n')) != std::string::npos;) {
      take_line(partial_.substr(0, end));
      partial_.erase(0, end + 1);
    }
    if (partial_.size() > kLineMax) take_line(std::exchange(partial_, {}));
  }
}

void ServerProcess::take_line(std::string line) {
  if (ready_ || log_.verbose()) log_.server_line(line);
  if (ready_) return;
  lines_.push_back(std::move(line));
  if (lines_.size() > kLinesMax) lines_.pop_front();
}

void ServerProcess::is_ready() {
  ready_ = true;
  if (!log_.verbose()) {
    for (const std::string& line : lines_) log_.server_line(line);
  }
  lines_.clear();
}

void ServerProcess::check_end() {
  if (!end_.empty()) return;
  std::optional<int> status = child_->ended();
  if (!status) return;
  end_watch_->stop();
  read_lines();
  if (!partial_.empty()) take_line(std::exchange(partial_, {}));
  status_ = *status;
  end_ = describe_exit(*status);
  if (!stopping_ && ended_) ended_();
}

bool ServerProcess::ended_of_itself() const {
  if (end_.empty() || status_ == ChildProcess::kUnknownEnd) return false;
  int signal = WIFSIGNALED(status_) ? WTERMSIG(status_) : 0;
  return signal != SIGKILL && signal != SIGTERM;
}

Task<void> ServerProcess::explain(Error error) {
  bool gone = error.code == std::errc::connection_reset || error.code == std::errc::broken_pipe;
  if (gone && end_.empty()) {
    co_await wait_for_process(loop_, child_->fd(), kExplainMax);
    check_end();
  }
  if (end_.empty()) {
    // It lives, and has refused or not answered in time.
    if (error.code == std::errc::timed_out) co_await fail(std::move(error));
    co_await fail(attach_error(ExitCode::server_failed,
                               fmt::format("the server refused: {}", error.message())));
  }
  auto last = std::find_if(lines_.rbegin(), lines_.rend(), [](const std::string& line) {
    return line.find("error: ") != std::string::npos;
  });
  if (last == lines_.rend()) last = lines_.rbegin();
  std::string words = last != lines_.rend() ? ": " + *last : std::string();
  co_await fail(attach_error(ExitCode::server_failed,
                             fmt::format("the server {} before it was ready{}", end_, words)));
}

Task<void> ServerProcess::stop(bool at_once) {
  if (!child_) co_return;
  stopping_ = true;
  if (handoff_) handoff_->close();
  if (!child_->ended() && !at_once) {
    child_->signal(SIGTERM);
    co_await wait_for_process(loop_, child_->fd(), kDrainMax);
  }
  if (!child_->ended()) {
    log_.debug("", "the server does not end by itself: killed");
    child_->signal(SIGKILL);
    co_await wait_for_process(loop_, child_->fd(), kKillMax);
  }
  check_end();
  end_watch_.reset();
  words_watch_.reset();
}

}  // namespace nbdkit
