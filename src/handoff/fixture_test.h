// SPDX-License-Identifier: BSD-3-Clause
// What the tests of control sockets share: a real server, and a peer that knows only the bytes.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "handoff/connection_verbs.h"
#include "handoff/handoff_control.h"
#include "lib/handoff/handoff_wire.h"
#include "support/handoff_peer.h"
#include "support/socket_pair.h"
#include "support/stack.h"
#include "support/test_server.h"

namespace nbdkit {

inline constexpr std::uint64_t kSize = 1 << 20;
inline constexpr std::string_view kServe =
    R"({"verb":"serve","mode":"transmission","peer":"client"})";
inline constexpr std::string_view kQuery = R"({"verb":"query"})";

// Has the export "disk"; "" means that one, "slow" is the same when the test says so, and any other
// name is wrong.
class NamedLayer final : public Layer {
 public:
  explicit NamedLayer(std::unique_ptr<ScriptedLayer> disk) : disk_(std::move(disk)) {}
  Contract contract() const override { return disk_->contract(); }
  Task<std::string> default_export(Context&) override {
    return Task<std::string>(std::string("disk"));
  }
  Task<DevicePtr> open(Context& context) override {
    if (context.export_name == "disk") return disk_->open(context);
    if (context.export_name == "slow") return open_slowly(context);
    return Task<DevicePtr>(Error(std::errc::no_such_file_or_directory, "there is no such disk"));
  }
  ScriptedLayer& disk() { return *disk_; }
  void let_slow_ones_go() { go_.set_value(); }

 private:
  Task<DevicePtr> open_slowly(Context& context) {
    auto wait = [told = told_]() -> Result<void> {
      told.wait();
      return {};
    };
    co_await context.blocking(std::move(wait));
    co_return co_await disk_->open(context);
  }

  std::promise<void> go_;
  std::shared_future<void> told_ = go_.get_future().share();
  std::unique_ptr<ScriptedLayer> disk_;
};

class HandoffControlTest : public testing::Test {
 protected:
  HandoffControlTest() {
    Result<void> started = server.on_main_loop([&]() -> Task<void> {
      terms.contract.survives = Survives::flushed;
      terms.contract.shared_open = true;
      control =
          std::make_unique<HandoffControl>(server.main_loop(), server.server(), server.log_sink(),
                                           terms, std::move(sockets.theirs), ::geteuid());
      return control->start([this] { lost.set_value(); });
    });
    EXPECT_TRUE(started.ok());
  }
  ~HandoffControlTest() override { stop(); }
  void stop() {
    if (!control) return;
    EXPECT_TRUE(server.on_main_loop([&] { return control->stop(); }).ok());
    Result<void> gone = server.on_main_loop([&]() -> Task<void> {
      control.reset();
      return Result<void>();
    });
    EXPECT_TRUE(gone.ok());
  }

  // Gives away one end of a new connection; the client has the other.
  HandoffPeer::Message serve(std::string_view body, WireClient& client) {
    SocketPair pair;
    client = WireClient(std::move(pair.ours));
    return peer.ask(body, pair.theirs.get());
  }
  // Each loop has descriptors of its own and is made when it is needed first.
  void make_all_loops() {
    std::vector<WireClient> clients;
    for (std::size_t i = 0; i < LoopPool::kLoopsMax; ++i) {
      clients.emplace_back(UniqueFd());
      ASSERT_EQ(serve(kServe, clients.back()).kind, NBDKIT_HANDOFF_ANSWER);
    }
    clients.clear();
    std::size_t left = clients.capacity();
    while (left > 0) {
      left = server.on_main_loop([&] { return Task<std::size_t>(server.server().connections()); })
                 .value();
    }
  }
  static Json body_of(const HandoffPeer::Message& message) {
    return Json::parse(message.body).value();
  }
  static void expect_error(const HandoffPeer::Message& message, std::string_view code,
                           std::string_view words) {
    EXPECT_EQ(message.kind, NBDKIT_HANDOFF_ERROR);
    Json body = body_of(message);
    EXPECT_EQ(*body.find("code")->as_string(), code) << message.body;
    EXPECT_NE(body.find("message")->as_string()->find(words), std::string::npos) << message.body;
  }

  NamedLayer* plugin = new NamedLayer(std::make_unique<ScriptedLayer>(kSize));
  TestServer server{std::unique_ptr<Layer>(plugin)};
  HandoffSockets sockets;
  HandoffPeer peer{std::move(sockets.ours)};
  HandoffTerms terms;
  std::unique_ptr<HandoffControl> control;
  std::promise<void> lost;
};

}  // namespace nbdkit
