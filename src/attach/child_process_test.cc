// SPDX-License-Identifier: BSD-3-Clause
#include "attach/child_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>

#include <cstdlib>
#include <filesystem>

namespace nbdkit {
namespace {

struct Pipe {
  Pipe() {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    in.reset(ends[0]);
    out.reset(ends[1]);
  }
  std::string read_all() {
    out.reset();
    std::string text;
    char buffer[4096];
    for (ssize_t n; (n = ::read(in.get(), buffer, sizeof(buffer))) > 0;) text.append(buffer, n);
    return text;
  }
  UniqueFd in, out;
};

ProcessRequest shell(std::string script) {
  return {.program = "/bin/sh", .arguments = {"sh", "-c", std::move(script)}};
}

TEST(ChildProcessTest, HowItEndedIsKnown) {
  ChildProcess child = std::move(ChildProcess::start(shell("exit 3"))).value();
  std::optional<int> status = child.wait(Seconds(10));
  ASSERT_TRUE(status);
  EXPECT_EQ(describe_exit(*status), "exited with status 3");
  EXPECT_EQ(child.ended(), status);
}

TEST(ChildProcessTest, ASignalReachesExactlyIt) {
  ChildProcess child = std::move(ChildProcess::start(shell("exec sleep 1000"))).value();
  EXPECT_FALSE(child.ended());
  child.signal(SIGKILL);
  std::optional<int> status = child.wait(Seconds(10));
  ASSERT_TRUE(status);
  EXPECT_EQ(describe_exit(*status), "was killed by signal 9 (Killed)");
}

TEST(ChildProcessTest, AProgramThatIsMissingIsAnError) {
  Result<ChildProcess> child =
      ChildProcess::start({.program = "/nonexistent/server", .arguments = {"server"}});
  ASSERT_FALSE(child.ok());
  EXPECT_EQ(child.error().message(), "/nonexistent/server: No such file or directory");
}

// A file that another one has taken the place of.
TEST(ChildProcessTest, ThePinnedProgramIsRunWhateverIsAtItsPath) {
  std::string pattern = (std::filesystem::temp_directory_path() / "program.XXXXXX").string();
  std::filesystem::path folder = ::mkdtemp(pattern.data());
  std::filesystem::path path = folder / "program";
  std::filesystem::copy_file("/bin/true", path);
  UniqueFd pinned(::open(path.c_str(), O_PATH | O_CLOEXEC));
  std::filesystem::remove(path);
  std::filesystem::copy_file("/bin/false", path);
  ProcessRequest request{.program = path.string(), .arguments = {"program"}};
  request.pinned = pinned.get();
  ChildProcess child = std::move(ChildProcess::start(request)).value();
  EXPECT_EQ(child.wait(Seconds(10)), 0);
  std::filesystem::remove_all(folder);
}

TEST(ChildProcessTest, ItStartsInItsFolder) {
  Pipe pipe;
  ProcessRequest request = shell("pwd");
  request.folder = "/usr/lib";
  request.descriptors = {{pipe.out.get(), 1}};
  ChildProcess child = std::move(ChildProcess::start(request)).value();
  EXPECT_EQ(pipe.read_all(), "/usr/lib\n");
  child.wait(Seconds(10));
  request.folder = "/nonexistent/folder";
  Result<ChildProcess> failed = ChildProcess::start(request);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().message(), "/nonexistent/folder: No such file or directory");
}

TEST(ChildProcessTest, OnlyTheNamedDescriptorsArrive) {
  Pipe pipe;
  UniqueFd leak(::open("/dev/zero", O_RDONLY));  // Not close-on-exec: a careless library's.
  ProcessRequest request = shell("ls -l /proc/self/fd | sed -n 's/.* \\([0-9]* -> .*\\)/\\1/p'");
  request.descriptors = {{pipe.out.get(), 1}, {pipe.in.get(), 7}};
  ChildProcess child = std::move(ChildProcess::start(request)).value();
  std::string listing = pipe.read_all();
  EXPECT_NE(listing.find("0 -> /dev/null"), std::string::npos) << listing;
  EXPECT_NE(listing.find("2 -> /dev/null"), std::string::npos) << listing;
  EXPECT_NE(listing.find("7 -> pipe"), std::string::npos) << listing;
  EXPECT_EQ(listing.find("zero"), std::string::npos) << listing;
  child.wait(Seconds(10));
}

TEST(ChildProcessTest, DescriptorsMayChangePlaces) {
  Pipe pipe;
  UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  UniqueFd zero(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  ProcessRequest request = shell("readlink /proc/$$/fd/" + std::to_string(null.get()) +
                                 " /proc/$$/fd/" + std::to_string(zero.get()));
  request.descriptors = {{pipe.out.get(), 1}, {null.get(), zero.get()}, {zero.get(), null.get()}};
  ChildProcess child = std::move(ChildProcess::start(request)).value();
  EXPECT_EQ(pipe.read_all(), "/dev/zero\n/dev/null\n");
  child.wait(Seconds(10));
}

TEST(ChildProcessTest, SignalsHaveTheirDefaultsAndNoTerminalReachesIt) {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t blocked, before;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
  Pipe pipe;
  ProcessRequest request =
      shell("sed -n '/SigBlk\\|SigIgn/s/.*\\t//p' /proc/self/status; cut -d' ' -f6 /proc/$$/stat");
  request.descriptors = {{pipe.out.get(), 1}};
  ChildProcess child = std::move(ChildProcess::start(request)).value();
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  EXPECT_EQ(pipe.read_all(),
            "0000000000000000\n0000000000000000\n" + std::to_string(child.pid()) + "\n");
  child.wait(Seconds(10));
}

TEST(ChildProcessTest, OneThatIsForgottenIsKilled) {
  Pipe pipe;
  {
    ProcessRequest request = shell("exec sleep 1000");
    request.descriptors = {{pipe.out.get(), 1}};
    Result<ChildProcess> child = ChildProcess::start(request);
    ASSERT_TRUE(child.ok());
  }
  EXPECT_EQ(pipe.read_all(), "");  // Ends only when the last writer is gone.
}

}  // namespace
}  // namespace nbdkit
