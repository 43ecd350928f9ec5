// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_signals.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace nbdkit {
namespace {

// The one thing that a signal handler can be told through. Set before the handlers are.
volatile std::sig_atomic_t signal_fd = -1;

extern "C" void tell_of_signal(int number) {
  int saved = errno;
  unsigned char byte = static_cast<unsigned char>(number);
  // A full pipe already says enough.
  [[maybe_unused]] ssize_t written = ::write(signal_fd, &byte, 1);
  errno = saved;
}

void set_handler(int number, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(number, &action, nullptr);
}

}  // namespace

Result<StopSignals> StopSignals::install() {
  StopSignals signals;
  NBDKIT_TRY(signals.renew());
  for (int number : {SIGINT, SIGQUIT, SIGTERM, SIGHUP}) set_handler(number, &tell_of_signal);
  set_handler(SIGPIPE, SIG_IGN);
  return signals;
}

Result<void> StopSignals::renew() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return os_error("pipe");
  signal_fd = ends[1];
  read_.reset(ends[0]);
  write_.reset(ends[1]);
  return {};
}

void StopSignals::ask_to_stop() { tell_of_signal(kAsked); }

int StopSignals::take() const {
  unsigned char number = 0;
  return ::read(read_.get(), &number, 1) == 1 ? number : 0;
}

void StopSignals::ignore_terminal() {
  for (int number : {SIGINT, SIGQUIT, SIGHUP}) set_handler(number, SIG_IGN);
}

}  // namespace nbdkit
