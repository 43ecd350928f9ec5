// SPDX-License-Identifier: BSD-3-Clause
#include "async/loop_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "async/post.h"
#include "support/open_files.h"

namespace nbdkit {
namespace {

struct LoopPoolTest : testing::Test {
  ~LoopPoolTest() override {
    for (Loop* loop : held) pool.release(*loop);
    workers.stop();
  }
  Loop& acquire() {
    Result<Loop*> loop = pool.acquire();
    EXPECT_TRUE(loop.ok());
    held.push_back(loop.value());
    return *held.back();
  }
  void release(Loop& loop) {
    held.erase(std::find(held.begin(), held.end(), &loop));
    pool.release(loop);
  }
  static std::size_t loops_max() {
    return std::min<std::size_t>(
        LoopPool::kLoopsMax,
        LoopPool::kLoopsPerCpu * std::max(1u, std::thread::hardware_concurrency()));
  }

  WorkerPool workers;
  LoopPool pool{workers};
  std::vector<Loop*> held;
};

TEST_F(LoopPoolTest, EachUserHasALoopOfItsOwnUpToTheLimit) {
  std::set<Loop*> loops;
  for (std::size_t i = 0; i < loops_max(); ++i) loops.insert(&acquire());
  EXPECT_EQ(loops.size(), loops_max());
  for (std::size_t i = 0; i < loops_max(); ++i) loops.insert(&acquire());
  EXPECT_EQ(loops.size(), loops_max());
}

TEST_F(LoopPoolTest, TheFirstLoopNeedsDescriptors) {
  for (int spare : {0, 1}) {
    DescriptorShortage shortage(spare);
    Result<void> prepared = pool.prepare();
    ASSERT_FALSE(prepared.ok()) << spare;
    EXPECT_EQ(prepared.error().code, std::errc::too_many_files_open);
    EXPECT_FALSE(pool.acquire().ok());
  }
  EXPECT_TRUE(pool.prepare().ok());
}

TEST_F(LoopPoolTest, WithoutDescriptorsTheLoopsThatThereAreAreShared) {
  ASSERT_TRUE(pool.prepare().ok());
  DescriptorShortage shortage(0);
  Loop& first = acquire();
  EXPECT_EQ(&acquire(), &first);
}

TEST_F(LoopPoolTest, AtTheLimitTheLeastLoadedIsTaken) {
  std::map<Loop*, int> users;
  for (std::size_t i = 0; i < 3 * loops_max(); ++i) ++users[&acquire()];
  for (auto [loop, count] : users) EXPECT_EQ(count, 3);
  Loop& freed = *held.front();
  release(freed);
  EXPECT_EQ(&acquire(), &freed);
}

TEST_F(LoopPoolTest, ALoopWithoutUsersIsUsedAgain) {
  Loop& first = acquire();
  release(first);
  EXPECT_EQ(&acquire(), &first);
}

TEST_F(LoopPoolTest, EachLoopRunsOnAThreadOfItsOwn) {
  std::set<std::thread::id> threads{std::this_thread::get_id()};
  for (int i = 0; i < 3; ++i) {
    std::promise<std::thread::id> thread;
    post(acquire(), [&] { thread.set_value(std::this_thread::get_id()); });
    threads.insert(thread.get_future().get());
  }
  EXPECT_EQ(threads.size(), 1 + std::min<std::size_t>(3, loops_max()));
}

}  // namespace
}  // namespace nbdkit
