// SPDX-License-Identifier: BSD-3-Clause
#include "netlink/modprobe.h"

#include <gtest/gtest.h>

#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

Result<void> run_as_modprobe(std::string script, Seconds limit = Seconds(30)) {
  Modprobe modprobe;
  modprobe.program = "/bin/sh";
  modprobe.arguments.insert(modprobe.arguments.begin(), {"-c", std::move(script), "modprobe"});
  modprobe.limit = limit;
  return load_nbd_module(modprobe);
}

TEST(Modprobe, GetsParametersThatLeaveNoIdleDevices) {
  EXPECT_TRUE(run_as_modprobe("test \"$*\" = 'nbd nbds_max=0 max_part=31'").ok());
}

TEST(Modprobe, SeesNothingOfOurEnvironment) {
  ::setenv("MODPROBE_OPTIONS", "--dry-run", 1);
  EXPECT_TRUE(run_as_modprobe("test -z \"$MODPROBE_OPTIONS\" && test \"$LC_ALL\" = C").ok());
  ::unsetenv("MODPROBE_OPTIONS");
}

TEST(Modprobe, ItsWordsAreKept) {
  auto result = run_as_modprobe("echo 'modprobe: FATAL: Module nbd not found.' >&2; exit 1");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(exit_code_of(result.error()), ExitCode::no_module);
  EXPECT_EQ(result.error().message(),
            "kernel module nbd is not loaded and could not be loaded (modprobe: FATAL: Module nbd "
            "not found.)");
}

TEST(Modprobe, SeveralLinesBecomeOne) {
  auto result = run_as_modprobe("echo one; echo two >&2; exit 1");
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("(one; two)"), std::string::npos);
}

TEST(Modprobe, ManyWordsAreCutOff) {
  auto result = run_as_modprobe("seq 100000; exit 1");
  ASSERT_FALSE(result.ok());
  EXPECT_LT(result.error().message().size(), 2000u);
}

TEST(Modprobe, OneThatSaysNothingIsNamed) {
  auto result = run_as_modprobe("exit 3");
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("(/bin/sh: exit status 3)"), std::string::npos);
  result = run_as_modprobe("kill -9 $$");
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("killed by signal 9"), std::string::npos);
}

TEST(Modprobe, OneThatHangsIsEnded) {
  auto result = run_as_modprobe("exec sleep 1000", Seconds(1));
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("did not end in time"), std::string::npos);
}

TEST(Modprobe, OneThatIsNotThereIsNamed) {
  Modprobe modprobe;
  modprobe.program = "/nonexistent/modprobe";
  auto result = load_nbd_module(modprobe);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(exit_code_of(result.error()), ExitCode::no_module);
  EXPECT_NE(result.error().message().find("/nonexistent/modprobe: No such file"),
            std::string::npos);
}

}  // namespace
}  // namespace nbdkit
