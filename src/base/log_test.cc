// SPDX-License-Identifier: BSD-3-Clause
#include "base/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"

namespace nbdkit {
namespace {

struct LogTest : testing::Test {
  LogTest() {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    out.reset(ends[0]);
    in.reset(ends[1]);
    EXPECT_GE(::fcntl(in.get(), F_SETPIPE_SZ, 1 << 20), 1 << 20);
  }
  // Everything that was written.
  std::string text() {
    in.reset();
    std::string all;
    char buffer[65536];
    ssize_t count;
    while ((count = ::read(out.get(), buffer, sizeof buffer)) > 0) {
      all.append(buffer, static_cast<std::size_t>(count));
    }
    return all;
  }
  UniqueFd in, out;
};

TEST_F(LogTest, LinesHaveTheFormThatScriptsKnow) {
  Log log("nbdkit", true, in.get());
  log.error("file.3", "pread: {}", "Input/output error");
  log.warning("", "odd");
  log.debug("nbdkit", "listening on {}", 5);
  EXPECT_EQ(text(),
            "nbdkit: file.3: error: pread: Input/output error\n"
            "nbdkit: warning: odd\n"
            "nbdkit: nbdkit: debug: listening on 5\n");
}

TEST_F(LogTest, DebugIsForTheVerbose) {
  Log log("nbdkit", false, in.get());
  log.debug("nbdkit", "unheard");
  EXPECT_EQ(text(), "");
}

TEST_F(LogTest, AMessageIsOneLineWithOneNewline) {
  Log log("p", false, in.get());
  log.error("", "text\n\n");
  log.error("", "");
  EXPECT_EQ(text(), "p: error: text\np: error: \n");
}

TEST_F(LogTest, ALongMessageIsCut) {
  Log log("p", false, in.get());
  log.error("", "{}", std::string(2 * Log::kLogLineMax, 'x'));
  std::string line = text();
  EXPECT_EQ(line.size(), Log::kLogLineMax);
  EXPECT_EQ(line.back(), '\n');
}

TEST_F(LogTest, ErrnoIsTheCallers) {
  Log log("p", false, -1);
  errno = EXDEV;
  log.error("", "nobody hears this");
  EXPECT_EQ(errno, EXDEV);
}

TEST_F(LogTest, LinesOfSeveralThreadsDoNotMix) {
  Log log("p", false, in.get());
  std::vector<std::thread> threads;
  for (char c : {'a', 'b', 'c', 'd'}) {
    threads.emplace_back([&log, c] {
      for (int i = 0; i < 50; ++i) log.error("", "{}", std::string(1000, c));
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::string all = text();
  std::size_t lines = 0;
  for (std::size_t at = 0; at < all.size(); ++lines) {
    std::size_t end = all.find('\n', at);
    std::string line = all.substr(at, end - at);
    ASSERT_EQ(line, "p: error: " + std::string(1000, line.back()));
    at = end + 1;
  }
  EXPECT_EQ(lines, 200u);
}

}  // namespace
}  // namespace nbdkit
