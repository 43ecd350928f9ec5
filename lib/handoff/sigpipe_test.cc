// SPDX-License-Identifier: BSD-3-Clause
// A server that has gone is an error and never a signal.
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "fixture_test.h"

// In place of the C library's. POSIX has SIGPIPE for every type of socket with connections; Linux
// leaves it out for SOCK_SEQPACKET, today.
extern "C" ssize_t sendmsg(int socket, const msghdr* message, int flags) {
  ssize_t sent = ::syscall(SYS_sendmsg, socket, message, flags);
  if (sent < 0 && errno == EPIPE && (flags & MSG_NOSIGNAL) == 0) {
    ::raise(SIGPIPE);
    errno = EPIPE;
  }
  return sent;
}

namespace nbdkit {
namespace {

class SigpipeTest : public HandoffLibraryTest {
 protected:
  // In a process of its own with the signal as it is by default: whoever runs the tests may have it
  // ignored.
  template <typename Function>
  int status_of(Function function) {
    pid_t child = ::fork();
    if (child == 0) {
      sigset_t none;
      ::sigemptyset(&none);
      ::signal(SIGPIPE, SIG_DFL);
      ::sigprocmask(SIG_SETMASK, &none, nullptr);
      ::_exit(function());
    }
    int status = -1;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return status;
  }
};

TEST_F(SigpipeTest, TheSignalWouldCome) {
  HandoffSockets sockets;
  sockets.ours.reset();
  int status = status_of([&] {
    msghdr empty{};
    ::sendmsg(sockets.theirs.get(), &empty, 0);
    return 0;
  });
  EXPECT_TRUE(WIFSIGNALED(status)) << status;
}

TEST_F(SigpipeTest, AServerThatHasGoneIsNoSignal) {
  peer->close();
  int status = status_of([&] {
    bool refused = query() == nullptr;
    return refused && nbdkit_handoff_error_code() == NBDKIT_HANDOFF_E_DISCONNECTED ? 0 : 1;
  });
  EXPECT_FALSE(WIFSIGNALED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace nbdkit
