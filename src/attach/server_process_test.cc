// SPDX-License-Identifier: BSD-3-Clause
#include "attach/server_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "netlink/exit_code.h"
#include "support/real_loop.h"

namespace nbdkit {
namespace {

// Servers that are shell scripts: none speaks the handoff protocol.
struct ServerProcessTest : testing::Test {
  ServerProcessTest() : server(loop, log) {
    std::string pattern = (std::filesystem::temp_directory_path() / "server.XXXXXX").string();
    folder = ::mkdtemp(pattern.data());
    memory.reset(::memfd_create("kept", MFD_CLOEXEC));
    options.plugin = {"memory", "1M"};
  }
  ~ServerProcessTest() override { std::filesystem::remove_all(folder); }

  void start(const std::string& script) {
    options.server = (folder / "server").string();
    std::ofstream(options.server) << "#!/bin/sh\n" << script << "\n";
    ::chmod(options.server.c_str(), 0700);
    ASSERT_TRUE(server.start(options, {.kept_memory = memory.get()}, [this] { ++ended; }).ok());
  }
  Task<void> ask() {
    HandoffQuery query;
    Result<HandoffExport> info = co_await server.handoff().query(query, Seconds(1)).as_result();
    NBDKIT_CHECK(!info.ok());
    co_await server.explain(std::move(info).error());
  }
  Error why_not() {
    return std::move(loop.run([this] { return ask(); })).error();
  }
  bool stop(bool at_once) {
    return loop.run([=, this] { return server.stop(at_once); }).ok();
  }

  RealLoop loop;
  KeeperLog log{false};
  std::filesystem::path folder;
  UniqueFd memory;
  AttachOptions options;
  ServerProcess server;
  int ended = 0;
};

TEST_F(ServerProcessTest, AFailedStartIsToldInTheServersWords) {
  start(
      "echo nbdkit: warning: odd >&2; echo nbdkit: error: no such disk >&2; echo bye >&2; exit 1");
  Error error = why_not();
  EXPECT_EQ(exit_code_of(error), ExitCode::server_failed);
  EXPECT_EQ(error.message(),
            "the server exited with status 1 before it was ready: nbdkit: error: no such disk");
  EXPECT_EQ(ended, 1);
  EXPECT_FALSE(server.pid());
  EXPECT_TRUE(stop(false));
}

TEST_F(ServerProcessTest, AServerThatSaysNothingTimesOut) {
  start("exec sleep 1000");
  EXPECT_EQ(exit_code_of(why_not()), ExitCode::timeout);
  EXPECT_TRUE(server.pid());
  EXPECT_TRUE(stop(false));
  EXPECT_FALSE(server.pid());
  EXPECT_EQ(ended, 0);
}

TEST_F(ServerProcessTest, OneThatDoesNotEndIsKilled) {
  start("trap '' TERM; echo trapped >&2; while :; do sleep 1000; done");
  EXPECT_TRUE(stop(true));
  EXPECT_EQ(server.end(), "was killed by signal 9 (Killed)");
}

TEST_F(ServerProcessTest, TheEndIsNoticed) {
  start("read line </dev/null; exit 0");
  while (ended == 0) {
    // A turn of the loop.
    ASSERT_TRUE(loop.run([] { return Task<void>(Result<void>()); }).ok());
  }
  EXPECT_EQ(server.end(), "exited with status 0");
  EXPECT_TRUE(stop(false));
}

TEST_F(ServerProcessTest, NamedDescriptorsArriveBesideOurs) {
  UniqueFd file(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  options.plugin = {"file", "fd=" + std::to_string(file.get())};
  std::string number = std::to_string(file.get());
  start("readlink /proc/$$/fd/" + number + " >" + (folder / "link").string() +
        "; exec ls /proc/self/fd >" + (folder / "open").string());
  why_not();
  std::string link, line;
  std::getline(std::ifstream(folder / "link"), link);
  EXPECT_EQ(link, "/dev/zero");
  std::ifstream open(folder / "open");
  int count = 0;
  while (std::getline(open, line)) ++count;
  EXPECT_EQ(count, 8);  // three standard ones, our three, the file, and the folder that is listed
  EXPECT_TRUE(stop(false));
}

TEST_F(ServerProcessTest, AMissingProgramIsNamed) {
  options.server = "/nonexistent/nbdkit";
  Result<void> started = server.start(options, {.kept_memory = memory.get()}, [] {});
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(exit_code_of(started.error()), ExitCode::server_failed);
  EXPECT_EQ(started.error().message(),
            "the server cannot be started: /nonexistent/nbdkit: No such file or directory");
}

}  // namespace
}  // namespace nbdkit
