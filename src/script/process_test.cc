// SPDX-License-Identifier: BSD-3-Clause
#include "script/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <array>
#include <cstring>
#include <fstream>

#include "base/unique_fd.h"

namespace nbdkit {
namespace {

// As in the server.
class Process : public testing::Test {
 protected:
  Process() { ::signal(SIGPIPE, SIG_IGN); }
};

ProcessEnd shell(const std::string& script, std::string_view input = {},
                 std::span<std::byte> output = {}) {
  ProcessRun run;
  run.arguments = {"/bin/sh", "-c", script};
  run.input = std::as_bytes(std::span(input));
  run.output = output;
  Result<ProcessEnd> end = run_process(run);
  EXPECT_TRUE(end.ok());
  return std::move(end).value();
}

TEST_F(Process, GivesWhatItPrintsAndHowItEnds) {
  ProcessEnd end = shell("printf out; printf err >&2; exit 7");
  EXPECT_EQ(end.status, 7);
  EXPECT_EQ(end.signal, 0);
  EXPECT_EQ(end.text, "out");
  EXPECT_EQ(end.errors, "err");
  EXPECT_EQ(shell("kill -TERM $$").signal, SIGTERM);
}

TEST_F(Process, TakesAndGivesMoreThanAPipeHoldsAtTheSameTime) {
  std::string input(3'000'000, 'i');
  std::vector<std::byte> output(input.size());
  ProcessEnd end = shell("cat", input, output);
  EXPECT_EQ(end.received, input.size());
  EXPECT_FALSE(end.too_much || end.input_refused);
  EXPECT_EQ(std::memcmp(output.data(), input.data(), input.size()), 0);
}

TEST_F(Process, WhatDoesNotFitEndsTheProgram) {
  std::array<std::byte, 10> output;
  ProcessEnd end = shell("exec cat /dev/zero", {}, output);
  EXPECT_TRUE(end.too_much);
  EXPECT_EQ(end.signal, SIGPIPE);
  EXPECT_FALSE(shell("printf 0123456789", {}, output).too_much);
}

TEST_F(Process, EndlessTextEndsTheProgram) {
  ProcessEnd end = shell("exec cat /dev/zero");
  EXPECT_TRUE(end.too_much);
  EXPECT_EQ(end.text.size(), ProcessRun::kTextMax);
}

TEST_F(Process, OfManyErrorsTheFirstAreKept) {
  ProcessEnd end = shell("head -c 1000000 /dev/zero >&2");
  EXPECT_EQ(end.status, 0);
  EXPECT_EQ(end.errors.size(), ProcessRun::kErrorsMax);
}

TEST_F(Process, InputThatNobodyReadsIsNoticed) {
  EXPECT_TRUE(shell("exit 0", std::string(1 << 20, 'x')).input_refused);
  EXPECT_FALSE(shell("cat >/dev/null", std::string(1 << 20, 'x')).input_refused);
  EXPECT_EQ(shell("cat; echo end").text, "end\n");
}

TEST_F(Process, MayReadOnAfterItHasClosedItsOutput) {
  std::string input(1 << 20, 'x');
  EXPECT_FALSE(shell("exec >&- 2>&-; cat >/dev/null", input).input_refused);
}

TEST_F(Process, HasNoSignalsAndDescriptorsOfTheServer) {
  UniqueFd own(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  sigset_t one, old;
  ::sigemptyset(&one);
  ::sigaddset(&one, SIGUSR1);
  ::pthread_sigmask(SIG_BLOCK, &one, &old);
  ProcessEnd end =
      shell("ls -l /proc/self/fd | grep -c ' /$'; grep -E '^Sig(Blk|Ign):' /proc/self/status");
  ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
  EXPECT_EQ(end.text, "0\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

TEST_F(Process, HasWhatTheServerIsToPassOn) {
  UniqueFd lock(::open("/", O_RDONLY | O_DIRECTORY));
  EXPECT_EQ(shell("ls -l /proc/self/fd | grep -c ' /$'").text, "1\n");
}

TEST_F(Process, AFileThatIsNoProgramIsAShellScript) {
  std::string path = testing::TempDir() + "process-test-script";
  std::ofstream(path) << "echo $1 $2 $v\n";
  ASSERT_EQ(::chmod(path.c_str(), 0700), 0);
  const std::vector<std::string> environment{"v=variable"};
  ProcessRun run;
  run.arguments = {path, "one", "two"};
  run.environment = environment;
  EXPECT_EQ(run_process(run).value().text, "one two variable\n");
  ASSERT_EQ(::chmod(path.c_str(), 0600), 0);
  Result<ProcessEnd> refused = run_process(run);
  ASSERT_EQ(::unlink(path.c_str()), 0);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message().find(path), std::string::npos);
}

}  // namespace
}  // namespace nbdkit
