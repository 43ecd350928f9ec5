// SPDX-License-Identifier: BSD-3-Clause
#include "journal.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <fstream>
#include <iterator>
#include <mutex>
#include <string>
#include <vector>

#include "support/test_loop.h"

namespace nbdkit {
namespace {

class Recorder final : public Log {
 public:
  Recorder() : Log("test", false) {}
  void write(LogLevel, std::string_view, std::string_view text) override {
    std::lock_guard guard(mutex_);
    texts_ += text;
    texts_ += '\n';
  }
  std::string texts() {
    std::lock_guard guard(mutex_);
    return texts_;
  }

 private:
  std::mutex mutex_;
  std::string texts_;
};

TEST(Backlog, WorksOffInOrderAndInBatches) {
  TestLoop loop;
  std::vector<std::string> seen;
  Backlog backlog(0, [&](std::span<const std::string> texts) {
    seen.insert(seen.end(), texts.begin(), texts.end());
  });
  std::vector<std::string> put;
  for (int i = 0; i < 1000; ++i) {
    put.push_back(std::to_string(i));
    backlog.put(loop, put.back());
  }
  EXPECT_TRUE(loop.run(backlog.caught_up(loop)).ok());
  EXPECT_EQ(seen, put);
  EXPECT_TRUE(backlog.finish(Seconds(60)));
}

TEST(Backlog, OnlyWhoIsTooFarAheadWaits) {
  TestLoop loop;
  std::mutex stuck;
  std::unique_lock hold(stuck);
  Backlog backlog(2, [&](std::span<const std::string>) { std::lock_guard wait(stuck); });
  backlog.put(loop, "1");
  backlog.put(loop, "2");
  EXPECT_TRUE(loop.run(backlog.caught_up(loop)).ok());  // Although nothing has been done.
  backlog.put(loop, "3");
  Task<void> behind = backlog.caught_up(loop);
  EXPECT_FALSE(behind.done());
  EXPECT_FALSE(backlog.finish(Nanoseconds(0)));
  hold.unlock();
  EXPECT_TRUE(loop.run(std::move(behind)).ok());
  EXPECT_TRUE(backlog.finish(Seconds(60)));
}

TEST(LogFile, AFullDiskIsToldOnce) {
  Recorder log;
  auto file = LogFile::open("/dev/full", false, log);
  ASSERT_TRUE(file.ok());
  file.value()->backlog().put_now("one\n");
  file.value()->backlog().put_now("two\n");
  EXPECT_EQ(log.texts(),
            "writing /dev/full: No space left on device; lines are missing from the log from now "
            "on\n");
}

TEST(LogFile, AFileThatCannotBeOpenedIsNamed) {
  Recorder log;
  auto file = LogFile::open("/nonexistent/log", false, log);
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.error().message(), "opening logfile=/nonexistent/log: No such file or directory");
}

struct LogScriptTest : testing::Test {
  ~LogScriptTest() override {
    ::unlink(path.c_str());
    ::rmdir(folder.c_str());
  }
  std::string output() const {
    std::ifstream stream(path);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  std::string folder = [] {
    char name[] = "/tmp/log_script_test_XXXXXX";
    return std::string(::mkdtemp(name));
  }();
  std::string path = folder + "/out";
  TestLoop loop;
  Recorder log;
};

TEST_F(LogScriptTest, RunsForEachEventInOrder) {
  LogScript script("echo $act $id >> " + path, log);
  script.backlog().put_now("act=Ready\n");
  for (int i = 1; i <= 3; ++i) {
    script.backlog().put(loop, "act=Read\nid=" + std::to_string(i) + "\n");
  }
  EXPECT_TRUE(loop.run(script.backlog().caught_up(loop)).ok());
  script.backlog().put(loop, "act=Disconnect\n");
  EXPECT_TRUE(loop.run(Task<void>(Result<void>())).ok());  // One turn hands it to a worker.
  script.finish();
  EXPECT_EQ(output(), "Ready\nRead 1\nRead 2\nRead 3\nDisconnect\n");
}

TEST_F(LogScriptTest, ItsFailureIsNobodysBusiness) {
  LogScript script("exit 3", log);
  script.backlog().put_now("act=Ready\n");
  EXPECT_EQ(log.texts(), "");
}

TEST_F(LogScriptTest, OneThatDoesNotEndIsKilled) {
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  LogScript script("exec cat " + path, log, Nanoseconds(1));  // Nobody ever writes into it.
  for (int i = 0; i < 5; ++i) script.backlog().put(loop, "");
  EXPECT_TRUE(loop.run(script.backlog().caught_up(loop)).ok());
  script.finish();
  EXPECT_NE(log.texts().find("killing it"), std::string::npos);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);  // No child is left, not even a dead one.
}

}  // namespace
}  // namespace nbdkit
