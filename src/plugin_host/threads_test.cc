// SPDX-License-Identifier: BSD-3-Clause
// How many calls are made at the same time. The probe counts those that overlap.

#include <fmt/format.h>

#include <future>

#include "async/loop_pool.h"
#include "plugin_host/fixture_test.h"

namespace nbdkit {
namespace {

// Runs the Task that `make` begins on the thread of `loop`, to its end.
template <typename Make>
class OnLoop final : public Job {
 public:
  OnLoop(Loop& loop, Make make) : make_(std::move(make)) { loop.post(*this); }
  Result<void> wait() { return ended_.get_future().get(); }

 private:
  void run() noexcept override {
    finish(make_(), [this](Result<void> result) { ended_.set_value(std::move(result)); });
  }

  Make make_;
  std::promise<Result<void>> ended_;
};

// Everything is on this coroutine's frame, and so on the loop's thread.
Task<void> whole_connection(Loop& loop, Log& log, CPlugin& plugin, std::uint64_t number,
                            int reads) {
  Gate gate(loop);
  Context context(loop, gate, log, number);
  DevicePtr device = co_await plugin.open(context);
  std::vector<std::unique_ptr<Reply>> replies;
  std::vector<Task<void>> tasks;
  for (int i = 0; i < reads; ++i) {
    replies.push_back(std::make_unique<Reply>(loop.buffers(), number));
    tasks.push_back(device->pread(Request(Offset{0}, 512), *replies.back()));
  }
  std::optional<Error> failure;
  for (Task<void>& task : tasks) {
    Result<void> result = co_await std::move(task).as_result();
    if (!result.ok()) failure.emplace(std::move(result).error());
  }
  co_await device->close();
  co_await gate.drained();
  if (failure) co_await fail(std::move(*failure));
}

struct Threads : HostFixture {
  Threads() : loops(pool) {}

  void begin(Settings settings) {
    ASSERT_EQ(message_of(start(probe("probe-v2"), settings)), "");
    clear_trace();
  }

  // Two clients on loops of their own at the same time.
  void serve_two(int reads) {
    Loop* one = loops.acquire().value();
    Loop* two = loops.acquire().value();
    ASSERT_NE(one, two);
    auto connection = [this, reads](Loop& on, std::uint64_t number) {
      return
          [this, reads, &on, number] { return whole_connection(on, log, *plugin, number, reads); };
    };
    OnLoop first(*one, connection(*one, 1));
    OnLoop second(*two, connection(*two, 2));
    EXPECT_EQ(message_of(first.wait()), "");
    EXPECT_EQ(message_of(second.wait()), "");
    loops.release(*one);
    loops.release(*two);
  }
  int most_at_once() { return *static_cast<int*>(symbol("probe_most_at_once")); }

  WorkerPool pool;
  LoopPool loops;
};

TEST_F(Threads, ParallelMeansAsManyAsOneConnectionMayHave) {
  begin({{"meet", "16"}});  // Nobody leaves before 16 are there.
  EXPECT_EQ(message_of(loop.run(whole_connection(loop, log, *plugin, 1, 40))), "");
  EXPECT_EQ(most_at_once(), 16);
}

TEST_F(Threads, TheLimitOfAConnectionIsTheUsers) {
  ASSERT_EQ(message_of(open_module(probe("probe-v2"))), "");
  plugin->set_calls_max(3);
  plugin->attach(environment);
  ASSERT_EQ(message_of(configure({{"meet", "3"}})), "");
  ASSERT_EQ(message_of(plugin->configured()), "");
  EXPECT_EQ(message_of(loop.run(whole_connection(loop, log, *plugin, 1, 20))), "");
  EXPECT_EQ(most_at_once(), 3);
}

TEST_F(Threads, SerializeRequestsMeansOneForEachConnection) {
  begin({{"model", "2"}, {"meet", "2"}});  // The two connections do meet.
  serve_two(20);
  EXPECT_EQ(most_at_once(), 2);
}

TEST_F(Threads, SerializeAllRequestsMeansOneCallInAll) {
  begin({{"model", "1"}});
  serve_two(40);
  EXPECT_EQ(most_at_once(), 1);
}

TEST_F(Threads, SerializeConnectionsMeansOneAfterTheOther) {
  begin({{"model", "0"}});
  serve_two(3);
  EXPECT_EQ(most_at_once(), 1);
  std::string one = "open 0\npread 512 0 0\npread 512 0 0\npread 512 0 0\nclose\n";
  EXPECT_EQ(trace(), one + one);
}

TEST_F(Threads, ASecondClientWaitsUntilTheFirstHasLeft) {
  begin({{"model", "0"}});
  auto first = connect();
  auto second = new_client();
  Task<DevicePtr> waiting = plugin->open(second->context());
  EXPECT_TRUE(first->read(0, 512).ok());
  EXPECT_FALSE(waiting.done());
  EXPECT_EQ(trace(), "open 0\npread 512 0 0\n");
  EXPECT_EQ(message_of(first->close()), "");
  Result<DevicePtr> device = loop.run(std::move(waiting));
  ASSERT_TRUE(device.ok());
  EXPECT_TRUE(loop.run(device.value()->close()).ok());
}

TEST_F(Threads, AWaitingClientCanLeave) {
  begin({{"model", "0"}});
  auto first = connect();
  auto second = new_client();
  Task<DevicePtr> waiting = plugin->open(second->context());
  second->end();
  Result<DevicePtr> device = loop.run(std::move(waiting));
  EXPECT_EQ(device.error().code, std::errc::operation_canceled);
  EXPECT_EQ(message_of(first->close()), "");
  EXPECT_EQ(message_of(connect()->close()), "");  // Nobody holds the turn.
}

TEST_F(Threads, AFailedOpeningGivesTheTurnBack) {
  begin({{"model", "0"}, {"fail", "can_flush:text:0"}});
  EXPECT_FALSE(new_client()->open(*plugin).ok());
  EXPECT_FALSE(new_client()->open(*plugin).ok());
}

TEST_F(Threads, TheListOfExportsWaitsForTheTurnButNotForItsOwnConnection) {
  begin({{"model", "0"}});
  auto first = connect();
  EXPECT_TRUE(loop.run(plugin->list_exports(first->context())).ok());
  auto second = new_client();
  auto waiting = plugin->list_exports(second->context());
  EXPECT_TRUE(first->read(0, 1).ok());
  EXPECT_FALSE(waiting.done());
  EXPECT_EQ(message_of(first->close()), "");
  EXPECT_TRUE(loop.run(std::move(waiting)).ok());
}

TEST_F(Threads, AThreadOfThePluginsOwnServesNobody) {
  begin({{"do", "thread"}});
  auto client = connect();
  clear_trace();
  EXPECT_TRUE(client->read(0, 1).ok());
  EXPECT_EQ(trace(), "pread 1 0 0\nthread errno=1\nthread name=none tls=-1 kept=kept\n");
  EXPECT_NE(log.errors().find(": from a thread: No such file or directory\n"), std::string::npos)
      << log.errors();
}

TEST_F(Threads, ASleepEndsWithTheConnection) {
  begin({{"do", "nap"}});
  auto client = connect();
  Reply reply(loop.buffers(), 1);
  Task<void> napping = client->device().pread(Request(Offset{0}, 1), reply);
  client->end();
  Result<void> result = loop.run(std::move(napping));
  EXPECT_EQ(static_cast<int>(result.error().code), ESHUTDOWN);
}

TEST_F(Threads, ASleepEndsWithTheServer) {
  begin({{"do", "nap"}});
  auto client = connect();
  Reply reply(loop.buffers(), 1);
  Task<void> napping = client->device().pread(Request(Offset{0}, 1), reply);
  host->stop();
  Result<void> result = loop.run(std::move(napping));
  EXPECT_EQ(static_cast<int>(result.error().code), ESHUTDOWN);
}

}  // namespace
}  // namespace nbdkit
