// SPDX-License-Identifier: BSD-3-Clause
#include "attach/control_server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>

#include "async/runtime.h"
#include "attach/control_client.h"
#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

// The keeper's side runs on the test's thread, clients on another one.
struct ControlServerTest : testing::Test, ControlHandler {
  ControlServerTest() : loop(runtime.main_loop()), server(loop, *this), life(loop) {
    std::string pattern = (std::filesystem::temp_directory_path() / "ctl.XXXXXX").string();
    folder = ::mkdtemp(pattern.data());
    path = folder / "nbd0.sock";
    EXPECT_TRUE(server.start(path.string()).ok());
  }
  ~ControlServerTest() override { std::filesystem::remove_all(folder); }

  bool knows(std::string_view method) const override { return method != "unknown"; }
  Task<Json> call(const RpcCall& call) override {
    ++calls;
    if (call.method == "echo") return Task<Json>(Result<Json>(call.params));
    if (call.method == "slow") return slow();
    if (call.method == "wrong") {
      return Task<Json>(
          Error(std::errc::argument_out_of_domain, "\"force\" must be true or false"));
    }
    return Task<Json>(attach_error(ExitCode::busy, "nbd0 is mounted on /mnt"));
  }
  Task<Json> slow() {
    co_await loop.sleep(Milliseconds(20), life);
    co_return Json("slow");
  }

  // Runs `client` while the server serves, then ends the server.
  template <typename Function>
  void serve(Function client) {
    std::thread thread([&] {
      client();
      loop.stop();
    });
    loop.run();
    thread.join();
    finish(server.stop(), [&](Result<void>) { loop.stop(); });
    loop.run();
  }
  ControlClient connect() { return std::move(ControlClient::connect(path.string())).value(); }

  UniqueFd connect_raw() {
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path.c_str());
    EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    return socket;
  }
  std::string read_line(int fd) {
    std::string line;
    for (char c; ::read(fd, &c, 1) == 1 && c != '\n';) line.push_back(c);
    return line;
  }

  Runtime runtime;
  Loop& loop;
  ControlServer server;
  Gate life;
  std::filesystem::path folder, path;
  int calls = 0;
};

TEST_F(ControlServerTest, CallsAreAnsweredOneAfterAnother) {
  serve([&] {
    ControlClient client = connect();
    Json params = Json::object().set("a", 1);
    EXPECT_EQ(client.call("echo", params, Seconds(10)).value(), params);
    EXPECT_EQ(client.call("slow", Json(), Seconds(10)).value(), Json("slow"));
    EXPECT_EQ(client.call("echo", params, Seconds(10)).value(), params);
  });
}

TEST_F(ControlServerTest, AFailureComesWithItsExitCode) {
  serve([&] {
    Result<Json> result = connect().call("detach", Json(), Seconds(10));
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(exit_code_of(result.error()), ExitCode::busy);
    EXPECT_EQ(result.error().message(), "nbd0 is mounted on /mnt");
  });
}

TEST_F(ControlServerTest, BadCallsAreRefusedAndTheConnectionGoesOn) {
  serve([&] {
    UniqueFd socket = connect_raw();
    auto ask = [&](std::string line) {
      line += "\n";
      EXPECT_EQ(::write(socket.get(), line.data(), line.size()), ssize_t(line.size()));
      Json answer = Json::parse(read_line(socket.get())).value();
      return answer.find("error")->find("code")->as_signed().value();
    };
    EXPECT_EQ(ask("{"), -32700);
    EXPECT_EQ(ask(R"({"jsonrpc":"2.0","id":1,"method":"unknown"})"), -32601);
    EXPECT_EQ(ask(R"({"jsonrpc":"2.0","id":1,"method":"wrong"})"), -32602);
    EXPECT_EQ(ask(R"({"jsonrpc":"2.0","id":1,"method":"detach"})"), -32000);
  });
}

TEST_F(ControlServerTest, SeveralLinesAtOnceAreAnsweredInOrder) {
  serve([&] {
    UniqueFd socket = connect_raw();
    std::string lines;
    for (int i = 0; i < 3; ++i) {
      lines += R"({"jsonrpc":"2.0","id":)" + std::to_string(i) + R"(,"method":"slow"})" + "\n";
    }
    EXPECT_EQ(::write(socket.get(), lines.data(), lines.size()), ssize_t(lines.size()));
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(Json::parse(read_line(socket.get())).value().find("id")->as_signed(), i);
    }
  });
}

TEST_F(ControlServerTest, ANotificationIsCarriedOutAndNotAnswered) {
  serve([&] {
    UniqueFd socket = connect_raw();
    std::string lines = R"({"jsonrpc":"2.0","method":"slow"})"
                        "\n"
                        R"({"jsonrpc":"2.0","id":"x","method":"echo"})"
                        "\n";
    EXPECT_EQ(::write(socket.get(), lines.data(), lines.size()), ssize_t(lines.size()));
    EXPECT_EQ(*Json::parse(read_line(socket.get())).value().find("id"), Json("x"));
  });
  EXPECT_EQ(calls, 2);
}

TEST_F(ControlServerTest, AnEndlessLineEndsTheConnection) {
  serve([&] {
    UniqueFd socket = connect_raw();
    std::string block(64 * 1024, ' ');
    while (::send(socket.get(), block.data(), block.size(), MSG_NOSIGNAL) > 0) {
    }
    EXPECT_EQ(connect().call("echo", Json(), Seconds(10)).value(), Json());
  });
}

TEST_F(ControlServerTest, AClientThatLeavesDuringItsCallHarmsNobody) {
  serve([&] {
    std::string line = R"({"jsonrpc":"2.0","id":1,"method":"slow"})"
                       "\n";
    EXPECT_EQ(::write(connect_raw().get(), line.data(), line.size()), ssize_t(line.size()));
    EXPECT_EQ(connect().call("slow", Json(), Seconds(10)).value(), Json("slow"));
  });
}

TEST_F(ControlServerTest, TooManyClientsAreTurnedAway) {
  serve([&] {
    std::vector<ControlClient> clients;
    for (std::size_t i = 0; i < ControlServer::kClientsMax; ++i) {
      clients.push_back(connect());
      EXPECT_TRUE(clients.back().call("echo", Json(), Seconds(10)).ok());
    }
    EXPECT_FALSE(connect().call("echo", Json(), Seconds(10)).ok());
    clients.pop_back();
    EXPECT_TRUE(clients.front().call("slow", Json(), Seconds(10)).ok());
    EXPECT_TRUE(connect().call("echo", Json(), Seconds(10)).ok());
  });
}

TEST_F(ControlServerTest, NobodyListensAfterwards) {
  serve([] {});
  Result<ControlClient> client = ControlClient::connect(path.string());
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.error().code, std::errc::connection_refused);
}

}  // namespace
}  // namespace nbdkit
