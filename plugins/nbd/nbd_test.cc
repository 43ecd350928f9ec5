// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <functional>
#include <optional>

#include "support/socket_pair.h"
#include "support/stack.h"
#include "support/test_server.h"
#include "support/unix_listener.h"
#include "support/wire_server.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kSize = 1 << 20;

// The other server, which is one of ours with a disk that does as it is told.
struct NbdPlugin : testing::Test {
  ScriptedLayer* disk = new ScriptedLayer(kSize);  // The server owns it.
  TestServer server{std::unique_ptr<Layer>(disk)};
  UnixListener listener{
      [this](UniqueFd socket) { EXPECT_TRUE(server.start(std::move(socket), {}).ok()); }};

  // A client's connection through the plugin.
  std::unique_ptr<Stack> open(Parameters more = {}) {
    std::vector<std::pair<std::string_view, std::string_view>> all(more);
    all.emplace_back("socket", listener.path());
    std::unique_ptr<Stack> stack = made(all);
    Result<Chain*> opened = stack->open();
    EXPECT_TRUE(opened.ok()) << opened.error().message();
    return stack;
  }
  static std::unique_ptr<Stack> made(
      const std::vector<std::pair<std::string_view, std::string_view>>& parameters) {
    // Parameters is a list that cannot be built; these are as many as any test has.
    auto at = [&](std::size_t i) { return parameters[std::min(i, parameters.size() - 1)]; };
    auto stack = Stack::plugin("nbd", {at(0), at(1), at(2)});
    EXPECT_TRUE(stack.ok()) << stack.error().message();
    return std::move(stack).value();
  }
};

TEST_F(NbdPlugin, WhatIsWrittenIsThere) {
  for (std::string_view shared : {"false", "true"}) {
    auto stack = open({{"shared", shared}});
    std::string data(70'000, 'x');
    ASSERT_TRUE(stack->write(4096, data).ok());
    EXPECT_EQ(stack->read(4000, 70'192).value(),
              std::string(96, '\0') + data + std::string(96, '\0'));
    ASSERT_TRUE(stack->zero(4096, 70'000).ok());
    ASSERT_TRUE(stack->flush().ok());
    EXPECT_EQ(stack->read(4096, 512).value(), std::string(512, '\0'));
  }
}

TEST_F(NbdPlugin, AnnouncesWhatTheOtherServerCan) {
  disk->properties.can_fast_zero = true;
  disk->properties.is_rotational = true;
  disk->properties.block_size = {512, 4096, 1 << 20};
  disk->properties.description = "a disk";
  auto stack = open();
  const Properties& properties = stack->device().properties();
  EXPECT_EQ(properties.size, kSize);
  EXPECT_TRUE(properties.can_write && properties.can_flush && properties.can_fua);
  EXPECT_TRUE(properties.can_trim && properties.can_fast_zero && properties.can_cache);
  EXPECT_TRUE(properties.can_extents && properties.can_multi_conn && properties.is_rotational);
  EXPECT_EQ(properties.block_size.minimum, 512u);
  EXPECT_EQ(properties.block_size.maximum, 1u << 20);
  EXPECT_EQ(properties.description, "a disk");
  EXPECT_EQ(properties.identity, "nbd " + listener.path() + " '' 1048576");
}

TEST_F(NbdPlugin, AnnouncesNothingThatTheOtherServerLacks) {
  disk->properties = Properties();
  disk->properties.size = kSize;
  auto stack = open();
  const Properties& properties = stack->device().properties();
  EXPECT_FALSE(properties.can_write || properties.can_flush || properties.can_fua);
  EXPECT_FALSE(properties.can_trim || properties.can_fast_zero || properties.can_cache);
  EXPECT_FALSE(properties.can_multi_conn || properties.is_rotational);
  EXPECT_FALSE(properties.block_size.known());
}

TEST_F(NbdPlugin, FlagsArriveAtTheOtherServer) {
  disk->properties.can_fast_zero = true;
  auto stack = open();
  ASSERT_TRUE(stack->write(0, "x", RequestFlags::fua).ok());
  ASSERT_TRUE(stack->zero(0, 512, RequestFlags::fua | RequestFlags::may_trim).ok());
  ASSERT_TRUE(stack->zero(0, 512, RequestFlags::fast_zero).ok());
  ASSERT_TRUE(stack->trim(0, 512, RequestFlags::fua).ok());
  ASSERT_EQ(disk->calls.size(), 4u);
  EXPECT_EQ(disk->calls[0].request.flags, RequestFlags::fua);
  EXPECT_EQ(disk->calls[1].request.flags, RequestFlags::fua | RequestFlags::may_trim);
  EXPECT_EQ(disk->calls[2].request.flags, RequestFlags::fast_zero);
  EXPECT_EQ(disk->calls[3].request.flags, RequestFlags::fua);
}

TEST_F(NbdPlugin, ErrorsArriveAsTheOtherServerHasThem) {
  auto stack = open();
  disk->fail(Operation::read, {std::errc::io_error});
  disk->fail(Operation::write, {std::errc::no_space_on_device});
  EXPECT_EQ(stack->read(0, 512).error().code, std::errc::io_error);
  EXPECT_EQ(stack->write(0, "x").error().code, std::errc::no_space_on_device);
}

TEST_F(NbdPlugin, HolesAreWhereTheOtherServerHasThem) {
  disk->extents = {{0, 4096, ExtentType::data}, {4096, kSize - 4096, ExtentType::hole_and_zero}};
  for (std::string_view shared : {"false", "true"}) {
    auto stack = open({{"shared", shared}});
    auto extents = stack->extents(1024, kSize - 1024).value();
    ASSERT_EQ(extents.size(), 2u);
    EXPECT_EQ(extents[0].length, 3072u);
    EXPECT_EQ(extents[1].type, ExtentType::hole_and_zero);
  }
}

TEST_F(NbdPlugin, EachClientHasAConnectionUnlessTheyShareOne) {
  auto separate = open();
  OtherConnection second(*separate);
  EXPECT_EQ(listener.accepted(), 2u);
  auto shared = open({{"shared", "true"}});
  OtherConnection third(*shared);
  EXPECT_EQ(listener.accepted(), 3u);
  EXPECT_TRUE(third.write(0, "from another loop").ok());
  EXPECT_EQ(shared->read(5, 7).value(), "another");
  EXPECT_TRUE(shared->device().properties().can_multi_conn);
}

TEST_F(NbdPlugin, SeveralConnectionsForOneClient) {
  auto stack = open({{"connections", "3"}});
  EXPECT_EQ(listener.accepted(), 3u);
  EXPECT_TRUE(stack->write(0, "x").ok());
}

// Each of them may have written what is lost.
TEST_F(NbdPlugin, EveryClientOfALostConnectionIsToldThatWritesMayBeLost) {
  auto shared = open({{"shared", "true"}});
  OtherConnection other(*shared);
  ASSERT_TRUE(shared->write(0, "not flushed").ok());
  listener.break_connections();
  ASSERT_TRUE(shared->read(0, 512).ok());
  EXPECT_EQ(shared->flush().error().code, std::errc::io_error);
  EXPECT_EQ(other.flush().error().code, std::errc::io_error);
  EXPECT_TRUE(shared->flush().ok());
  EXPECT_TRUE(other.flush().ok());
}

TEST_F(NbdPlugin, TheNameOfTheExportIsTheUsersOrTheClients) {
  auto fixed = open({{"export", "one"}});
  EXPECT_EQ(fixed->loop().run(fixed->layer().default_export(fixed->context())).value(), "one");
  auto exports = fixed->loop().run(fixed->layer().list_exports(fixed->context()));
  ASSERT_EQ(exports.value().size(), 1u);
  EXPECT_EQ(exports.value()[0].name, "one");
  EXPECT_NE(fixed->device().properties().identity.find("'one'"), std::string::npos);
  auto dynamic = open({{"dynamic-export", "true"}});
  ASSERT_TRUE(dynamic->open("two").ok());
  EXPECT_NE(dynamic->device().properties().identity.find("'two'"), std::string::npos);
  auto listed = dynamic->loop().run(dynamic->layer().list_exports(dynamic->context()));
  ASSERT_TRUE(listed.ok());
  EXPECT_EQ(listed.value().size(), 1u);
}

TEST(NbdPluginAlone, AnExportBesideTheNameInTheUriIsIgnoredAndThatIsSaid) {
  auto said = [](Parameters parameters) {
    auto stack = Stack::plugin("nbd", parameters);
    EXPECT_TRUE(stack.ok()) << stack.error().message();
    return stack.value()->log();
  };
  EXPECT_NE(said({{"export", "two"}, {"uri", "nbd://h/one"}}).find("export=two is ignored"),
            std::string::npos);
  EXPECT_EQ(said({{"export", "one"}, {"uri", "nbd://h/one"}}).find("ignored"), std::string::npos);
  EXPECT_EQ(said({{"export", "two"}, {"uri", "nbd://h/"}}).find("ignored"), std::string::npos);
}

TEST(NbdPluginAlone, ThereIsHardlyALimitToRetry) {
  EXPECT_TRUE(Stack::plugin("nbd", {{"retry", "4294967295"}, {"hostname", "h"}}).ok());
}

TEST(NbdPluginAlone, AServerThatCannotZeroIsWrittenTo) {
  std::vector<RequestHeader> asked;
  UnixListener listener([&](UniqueFd socket) {
    WireServer wire(std::move(socket));
    WireServer::Export about;
    about.flags = transmission_flag::kHasFlags | transmission_flag::kFlush;
    wire.shake_hands(about);
    for (;;) {
      RequestHeader header = wire.request();
      if (header.command == Command::disconnect) return;
      EXPECT_EQ(wire.receive(header.length), std::string(header.length, '\0'));
      asked.push_back(header);
      wire.simple(header.cookie);
    }
  });
  {
    auto stack = Stack::plugin("nbd", {{"socket", listener.path()}}).value();
    ASSERT_TRUE(stack->open().ok());
    EXPECT_TRUE(stack->zero(512, 4096).ok());
  }
  listener.close();
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].command, Command::write);
}

// Time is virtual here: what takes a while takes none.
TEST(NbdPluginAlone, AClientThatHasGoneDoesNotWaitForASilentServer) {
  UnixListener listener([](UniqueFd socket) {
    WireServer wire(std::move(socket));
    wire.shake_hands({});
    EXPECT_EQ(wire.request().command, Command::read);
    EXPECT_TRUE(wire.at_end());
  });
  auto stack = Stack::plugin("nbd", {{"socket", listener.path()}}).value();
  ASSERT_TRUE(stack->open().ok());
  Reply reply(stack->loop().buffers(), 1);
  std::optional<Result<void>> answered;
  ASSERT_TRUE(stack->gate().enter());
  finish(stack->device().pread(Request(Offset{0}, 512), reply), [&](Result<void> result) {
    answered.emplace(std::move(result));
    stack->gate().leave();
  });
  ASSERT_TRUE(stack->loop().run(stack->gate().drained()).ok());
  EXPECT_EQ(answered->error().code, std::errc::io_error);
  EXPECT_GE(stack->loop().elapsed(), Seconds(10));
}

TEST(NbdPluginAlone, AnInheritedSocketIsShared) {
  SocketPair pair;
  TestServer server(std::make_unique<ScriptedLayer>(kSize));
  ASSERT_TRUE(server.start(std::move(pair.theirs), {}).ok());
  std::string fd = std::to_string(pair.ours.get());
  auto stack = Stack::plugin("nbd", {{"socket-fd", fd}}).value();
  ASSERT_TRUE(stack->open().ok());
  OtherConnection other(*stack);
  EXPECT_TRUE(other.write(0, "hello").ok());
  EXPECT_EQ(stack->read(0, 5).value(), "hello");
  EXPECT_FALSE(stack->layer().contract().shared_open);
}

TEST(NbdPluginAlone, AnotherServersAnswersOutliveThisProcess) {
  auto remote = Stack::plugin("nbd", {{"hostname", "localhost"}}).value();
  EXPECT_EQ(remote->layer().contract().survives, Survives::durable);
  EXPECT_TRUE(remote->layer().contract().shared_open);
}

TEST(NbdPluginAlone, AProgramThatCannotBeRunOrSaysNothingIsAnError) {
  auto missing = Stack::plugin("nbd", {{"command", "/nonexistent"}});
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().message(), "/nonexistent: No such file or directory");
  EXPECT_FALSE(Stack::plugin("nbd", {{"command", "false"}}).ok());
}

TEST(NbdPluginAlone, AServerThatIsNotThereIsAnErrorOfTheClientOrOfTheStart) {
  auto later = Stack::plugin("nbd", {{"socket", "/nonexistent"}}).value();
  auto opened = later->open();
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().message(), "/nonexistent: connect: No such file or directory");
  EXPECT_FALSE(Stack::plugin("nbd", {{"socket", "/nonexistent"}, {"shared", "true"}}).ok());
}

struct Refusal {
  std::vector<std::pair<std::string_view, std::string_view>> parameters;
  const char* words;
};

TEST(NbdPluginAlone, ParametersThatMakeNoSenseAreRefused) {
  const std::vector<Refusal> refusals{
      {{{"retry", "1"}}, "which server?"},
      {{{"socket", "/a"}, {"hostname", "b"}}, "exclude each other"},
      {{{"uri", "nbd://h/"}, {"vsock", "2"}}, "exclude each other"},
      {{{"port", "10809"}}, "which server?"},
      {{{"socket", "/a"}, {"port", "10809"}}, "port= belongs to"},
      {{{"socket", "/a"}, {"arg", "x"}}, "arg= belongs to"},
      {{{"hostname", "-oProxyCommand=x"}}, "begins with '-'"},
      {{{"uri", "nbd://-h/"}}, "begins with '-'"},
      {{{"uri", "http://h/"}}, "is no URI of NBD"},
      {{{"hostname", "h"}, {"export", "x"}, {"dynamic-export", "true"}}, "exclude each other"},
      {{{"hostname", "h"}, {"shared", "true"}, {"dynamic-export", "true"}}, "not possible"},
      {{{"command", "true"}, {"dynamic-export", "true"}}, "not possible"},
      {{{"socket-fd", "3000"}}, "no open stream socket"},
      {{{"socket-fd", "2"}}, "socket-fd=2"},
      {{{"vsock", "4294967296"}}, "vsock=4294967296"},
      {{{"vsock", "2"}, {"port", "http"}}, "port=http"},
      {{{"hostname", "h"}, {"retry", "-1"}}, "retry=-1"},
      {{{"hostname", "h"}, {"connections", "0"}}, "connections=0"},
      {{{"hostname", "h"}, {"tls", "perhaps"}}, "'perhaps' is none of off, on and require"},
      {{{"hostname", "h"}, {"tls-psk", "/nonexistent"}}, "/nonexistent"},
      {{{"hostname", "h"}, {"tls-certificates", "/nonexistent"}}, "/nonexistent"},
  };
  for (const Refusal& refusal : refusals) {
    auto at = [&](std::size_t i) {
      return refusal.parameters[std::min(i, refusal.parameters.size() - 1)];
    };
    auto made = Stack::plugin("nbd", {at(0), at(1), at(2)});
    ASSERT_FALSE(made.ok()) << refusal.words;
    EXPECT_NE(made.error().message().find(refusal.words), std::string::npos)
        << made.error().message();
  }
}

}  // namespace
}  // namespace nbdkit
