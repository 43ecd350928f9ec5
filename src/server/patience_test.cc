// SPDX-License-Identifier: BSD-3-Clause
// Clients that take their time, and those beside them.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <vector>

#include "server/transmission.h"
#include "support/stack.h"
#include "support/test_server.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kSize = 64 << 20;

struct PatienceTest : testing::Test {
  // Where nobody else reads or writes.
  void expect_served() {
    WireClient client = server.connect();
    client.go();
    EXPECT_EQ(client.write(kSize / 2, "polite").error, 0u);
    EXPECT_EQ(client.read(kSize / 2, 6).data, "polite");
  }

  ScriptedLayer* disk = new ScriptedLayer(kSize);  // The server owns it.
  TestServer server{std::unique_ptr<Layer>(disk)};
};

// Sent without waiting; how much was taken.
std::size_t send_some(const WireClient& client, std::string_view bytes) {
  ssize_t n = ::send(client.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  return n < 0 ? 0 : static_cast<std::size_t>(n);
}

TEST_F(PatienceTest, WhoNeverReadsIsNotServedForEver) {
  constexpr std::uint32_t kLength = 1 << 20;
  constexpr std::size_t kRequests = 2000;
  WireClient greedy = server.connect();
  greedy.go();
  std::string requests;
  for (std::size_t i = 0; i < kRequests; ++i) {
    requests += WireClient::packet(Command::read, i, 0, kLength);
  }
  std::size_t sent = send_some(greedy, requests);
  expect_served();
  // What is in flight and what the socket holds; never what was asked for.
  EXPECT_LE(disk->arrived, Transmission::kBytesInFlightMax / kLength + 64);

  for (std::size_t i = 0; i < kRequests; ++i) {
    if (sent < requests.size()) sent += send_some(greedy, std::string_view(requests).substr(sent));
    WireClient::Answer answer = greedy.answer(kLength);
    ASSERT_EQ(answer.error, 0u);
    ASSERT_EQ(answer.cookie, i);
  }
}

TEST_F(PatienceTest, WhoStopsInTheMiddleHoldsUpNobody) {
  std::vector<WireClient> clients;
  const std::string write =
      WireClient::packet(Command::write, 1, 0, 4096, 0, std::string(4096, 'x'));
  for (std::size_t length : {29, 4000, 1, 27}) {
    clients.push_back(server.connect());
    clients.back().go();
    clients.back().send(write.substr(0, length));
  }
  clients.push_back(server.connect());  // in the middle of its handshake
  clients.back().greet();
  clients.back().send("IHAVE");
  expect_served();
  // Whoever has begun a payload is given Server::kDrainMax to end it.
  clients.erase(clients.begin(), clients.begin() + 2);
  server.stop();
  for (WireClient& client : clients) EXPECT_TRUE(client.at_end());
}

TEST_F(PatienceTest, AThousandIdleClientsAreAllThere) {
  constexpr std::size_t kClients = 1000;
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 4 * kClients);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  std::vector<WireClient> clients;
  for (std::size_t i = 0; i < kClients; ++i) {
    clients.push_back(server.connect());
    clients.back().go();
  }
  expect_served();
  for (WireClient& client : clients) EXPECT_EQ(client.read(0, 1).error, 0u);
}

TEST_F(PatienceTest, ALargeWriteMayArriveByteByByte) {
  constexpr std::uint32_t kLength = 64 << 20;
  constexpr std::size_t kSingly = 64 << 10;
  WireClient client = server.connect();
  client.go();
  std::string bytes = WireClient::packet(Command::write, 5, 0, kLength);
  bytes.resize(bytes.size() + kLength, 'z');
  // The header, the beginning and the end singly.
  std::string_view rest = bytes;
  auto send_singly = [&](std::size_t count) {
    for (; count > 0; --count, rest.remove_prefix(1)) client.send(rest.substr(0, 1));
  };
  send_singly(kSingly);
  client.send(rest.substr(0, rest.size() - kSingly));
  rest.remove_prefix(rest.size() - kSingly);
  send_singly(kSingly);
  WireClient::Answer answer = client.answer();
  EXPECT_EQ(answer.cookie, 5u);
  EXPECT_EQ(answer.error, 0u);
  EXPECT_EQ(client.read(kLength - 3, 3).data, "zzz");
}

}  // namespace
}  // namespace nbdkit
