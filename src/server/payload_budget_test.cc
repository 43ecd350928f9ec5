// SPDX-License-Identifier: BSD-3-Clause
#include "server/payload_budget.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <vector>

#include "support/stack.h"
#include "support/test_server.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kStep = PayloadShare::kStepBytes;
constexpr std::uint64_t kFree = PayloadShare::kFreeBytes;

TEST(PayloadShare, TakesInStepsWhatIsNotFree) {
  PayloadBudget budget;
  PayloadShare share(&budget);
  EXPECT_TRUE(share.grow_to(kFree));
  EXPECT_EQ(budget.used(), 0u);
  EXPECT_TRUE(share.grow_to(kFree + 1));
  EXPECT_TRUE(share.grow_to(kFree + kStep));
  EXPECT_EQ(budget.used(), kStep);
  EXPECT_TRUE(share.grow_to(kFree + 5 * kStep));
  EXPECT_EQ(budget.used(), 5 * kStep);
  share.shrink_to(kFree + 4 * kStep);
  EXPECT_EQ(budget.used(), 5 * kStep);
  share.shrink_to(kFree + 2 * kStep);
  EXPECT_EQ(budget.used(), 2 * kStep);
  share.shrink_to(0);
  EXPECT_EQ(budget.used(), 0u);
}

TEST(PayloadShare, OthersAreServedWhenAllIsTaken) {
  PayloadBudget budget;
  PayloadShare greedy(&budget), modest(&budget), unlimited(nullptr);
  EXPECT_TRUE(greedy.grow_to(kFree + PayloadBudget::kBytesMax));
  EXPECT_FALSE(greedy.grow_to(kFree + PayloadBudget::kBytesMax + 1));
  EXPECT_TRUE(modest.grow_to(kFree));
  EXPECT_FALSE(modest.grow_to(kFree + 1));
  EXPECT_TRUE(unlimited.grow_to(~std::uint64_t{0}));
  greedy.shrink_to(0);
  EXPECT_TRUE(modest.grow_to(kFree + 1));
}

TEST(PayloadShare, GivesBackAtItsEnd) {
  PayloadBudget budget;
  { EXPECT_TRUE(PayloadShare(&budget).grow_to(10 * kStep)); }
  EXPECT_EQ(budget.used(), 0u);
}

// Each has begun a large write, and does not end it.
class HungryClients {
 public:
  static constexpr std::uint32_t kLength = 32 << 20;
  static constexpr std::size_t kSent = kLength - 1;

  HungryClients(TestServer& server, std::size_t count, StartOptions options = {}) {
    for (std::size_t i = 0; i < count; ++i) {
      clients_.push_back(server.connect(options));
      WireClient& client = clients_.back();
      client.go();
      client.request(Command::write, 1, 0, kLength);
    }
  }

  // As much of their data as the server takes: until no socket has had room for a while.
  void send_all() {
    std::vector<std::size_t> left(clients_.size(), kSent);
    std::vector<pollfd> sockets;
    for (const WireClient& client : clients_) sockets.push_back({client.fd(), POLLOUT, 0});
    std::string piece(1 << 20, 'x');
    while (::poll(sockets.data(), sockets.size(), 500) > 0) {
      for (std::size_t i = 0; i < sockets.size(); ++i) {
        std::size_t length = std::min(left[i], piece.size());
        ssize_t n = ::send(sockets[i].fd, piece.data(), length, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) taken_ += static_cast<std::size_t>(n);
        if (n > 0) left[i] -= static_cast<std::size_t>(n);
        if (left[i] == 0) sockets[i].events = 0;
      }
    }
  }
  std::size_t taken() const { return taken_; }
  void leave() { clients_.clear(); }

 private:
  std::vector<WireClient> clients_;
  std::size_t taken_ = 0;
};

struct BudgetTest : testing::Test {
  TestServer server{std::make_unique<ScriptedLayer>(64 << 20)};
};

TEST_F(BudgetTest, WhatIsOnlyAnnouncedKeepsNobodyWaiting) {
  HungryClients hungry(server, 50);
  WireClient polite = server.connect();
  polite.go();
  std::string data(8 << 20, 'y');
  EXPECT_EQ(polite.write(0, data).error, 0u);
  EXPECT_TRUE(polite.read(0, 8 << 20).data == data);
}

TEST_F(BudgetTest, ManyLargeWritesShareWhatThereIs) {
  HungryClients hungry(server, 30);
  hungry.send_all();
  // The sockets' buffers, and what each client has for itself.
  EXPECT_LT(hungry.taken(), PayloadBudget::kBytesMax + 30 * (4u << 20));
  WireClient polite = server.connect();
  polite.go();
  EXPECT_EQ(polite.write(0, "small").error, 0u);

  // Who has given a socket of his own does not share with them.
  StartOptions options;
  options.foreign = true;
  WireClient handed = server.connect(options);
  handed.go();
  std::string data(16 << 20, 'y');
  EXPECT_EQ(handed.write(0, data).error, 0u);

  polite.request(Command::write, 7, 0, 16 << 20);
  hungry.leave();
  polite.send(data);
  EXPECT_EQ(polite.answer().error, 0u);
}

TEST_F(BudgetTest, WhoIsNotRootGetsNoMoreByCallingHimselfAKernel) {
  StartOptions options;
  options.foreign = options.kernel = true;
  options.owner = 1000;
  HungryClients hungry(server, 30, options);
  hungry.send_all();
  EXPECT_LT(hungry.taken(), PayloadBudget::kBytesMax + 30 * (4u << 20));
}

}  // namespace
}  // namespace nbdkit
