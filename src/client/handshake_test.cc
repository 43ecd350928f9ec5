// SPDX-License-Identifier: BSD-3-Clause
#include "client/handshake.h"

#include <gtest/gtest.h>

#include "support/real_loop.h"
#include "support/socket_pair.h"
#include "support/wire_server.h"

namespace nbdkit {
namespace {

using Script = std::function<void(WireServer&)>;

struct HandshakeTest : testing::Test {
  Result<ClientAgreement> enter(Script script) {
    SocketPair pair;
    ServerThread server(std::move(pair.theirs), script);
    SocketStream stream(std::move(pair.ours));
    ClientHandshake handshake(loop, gate, stream, wishes);
    Result<ClientAgreement> agreement = loop.run([&] { return handshake.enter_export(); });
    ::shutdown(stream.fd(), SHUT_RDWR);  // A script that goes on too long ends now.
    return agreement;
  }
  std::string refused(Script script) {
    Result<ClientAgreement> agreement = enter(script);
    EXPECT_FALSE(agreement.ok());
    return agreement.ok() ? "" : agreement.error().message();
  }
  Result<std::vector<ListAnswer>> list(Script script) {
    SocketPair pair;
    ServerThread server(std::move(pair.theirs), script);
    SocketStream stream(std::move(pair.ours));
    ClientHandshake handshake(loop, gate, stream, wishes);
    auto exports = loop.run([&] { return handshake.list_exports(); });
    ::shutdown(stream.fd(), SHUT_RDWR);
    return exports;
  }

  RealLoop loop;
  Gate gate{loop};
  HandshakeWishes wishes;
};

// What stands in front of the answers to `option`, for a client that wants no chunks.
void up_to(WireServer& server, Option option) {
  server.greet();
  EXPECT_EQ(server.option().option, option);
}

TEST_F(HandshakeTest, GetsEverythingThatTheServerHas) {
  wishes.export_name = "disk";
  WireServer::Export about;
  about.extended = true;
  about.base_allocation = 42;
  about.block_sizes = wire_number(Info::block_size) + wire_number(std::uint32_t{512}) +
                      wire_number(std::uint32_t{4096}) + wire_number(std::uint32_t{1 << 20});
  auto agreement = enter([&](WireServer& server) { server.shake_hands(about); });
  ASSERT_TRUE(agreement.ok()) << agreement.error().message();
  EXPECT_EQ(agreement.value().size, about.size);
  EXPECT_EQ(agreement.value().flags, about.flags);
  EXPECT_TRUE(agreement.value().extended_headers);
  EXPECT_EQ(agreement.value().base_allocation, 42u);
  EXPECT_EQ(agreement.value().block_sizes->maximum, 1u << 20);
}

TEST_F(HandshakeTest, ContentsItselfWithWhatThereIs) {
  auto agreement = enter([](WireServer& server) { server.shake_hands({}); });
  ASSERT_TRUE(agreement.ok());
  EXPECT_FALSE(agreement.value().structured_replies);
  EXPECT_FALSE(agreement.value().base_allocation);
  EXPECT_FALSE(agreement.value().block_sizes);
}

TEST_F(HandshakeTest, AServerWithoutGoIsAskedByName) {
  wishes.chunks = false;
  wishes.export_name = "old";
  auto agreement = enter([](WireServer& server) {
    up_to(server, Option::go);
    server.answer(Option::go, OptionReply::unsupported);
    EXPECT_EQ(server.option().data, "old");
    ExportNameReplyWire wire;
    wire.size = std::uint64_t{4096};
    wire.flags = transmission_flag::kHasFlags;
    server.send(wire_bytes(wire));
  });
  ASSERT_TRUE(agreement.ok());
  EXPECT_EQ(agreement.value().size, 4096u);
}

TEST_F(HandshakeTest, ANewstyleServerThatIsNotFixedIsAskedByName) {
  auto agreement = enter([](WireServer& server) {
    EXPECT_EQ(server.greet(0), 0u);
    EXPECT_EQ(server.option().option, Option::export_name);
    ExportNameReplyWire wire;
    wire.size = std::uint64_t{512};
    wire.flags = transmission_flag::kHasFlags;
    server.send(wire_bytes(wire) + std::string(kExportNameZeroes, '\0'));
  });
  ASSERT_TRUE(agreement.ok());
  EXPECT_EQ(agreement.value().size, 512u);
}

TEST_F(HandshakeTest, OldstyleServersAreUnderstood) {
  OldstyleGreetingWire wire;
  wire.size = std::uint64_t{12345};
  wire.flags = static_cast<std::uint16_t>(transmission_flag::kHasFlags | transmission_flag::kFua);
  auto greet = [&](WireServer& server) {
    server.send(wire_bytes(wire) + std::string(kExportNameZeroes, '\0'));
  };
  auto agreement = enter(greet);
  ASSERT_TRUE(agreement.ok());
  EXPECT_EQ(agreement.value().size, 12345u);
  EXPECT_TRUE(agreement.value().has(transmission_flag::kFua));
  wishes.export_name = "x";
  EXPECT_NE(refused(greet).find("only one export"), std::string::npos);
}

TEST_F(HandshakeTest, ARefusalIsToldInTheServersWords) {
  wishes.chunks = false;
  wishes.export_name = "nothing";
  EXPECT_EQ(refused([](WireServer& server) {
              up_to(server, Option::go);
              server.answer(Option::go, OptionReply::unknown, "never\theard of it");
            }),
            "the server refuses the export 'nothing': never?heard of it");
  EXPECT_EQ(refused([](WireServer& server) {
              up_to(server, Option::go);
              server.answer(Option::go, OptionReply::tls_required);
            }),
            "the server refuses the export 'nothing': it wants TLS first");
}

TEST_F(HandshakeTest, WhatNoServerMaySayEndsTheHandshake) {
  wishes.chunks = false;
  WireServer::Export wrong;
  wrong.flags = 0;
  const std::string no_flags = WireServer::export_info(wrong);
  wrong.flags = transmission_flag::kHasFlags;
  wrong.size = std::uint64_t{1} << 63;
  const std::string big = WireServer::export_info(wrong);
  const std::vector<std::pair<const char*, Script>> scripts{
      {"another greeting", [](WireServer& s) { s.send("SSH-2.0-OpenSSH_9.2 hello"); }},
      {"another kind", [](WireServer& s) { s.send("NBDMAGICNBDMAGIC"); }},
      {"no answer", [](WireServer& s) { up_to(s, Option::go), s.send(std::string(20, 'x')); }},
      {"another option",
       [](WireServer& s) { up_to(s, Option::go), s.answer(Option::list, OptionReply::ack); }},
      {"an answer that smashes",
       [](WireServer& s) {
         up_to(s, Option::go);
         OptionReplyWire wire;
         wire.option = Option::go;
         wire.type = OptionReply::info;
         wire.length = 0xffffffffu;
         s.send(wire_bytes(wire));
       }},
      {"nothing about the export",
       [](WireServer& s) { up_to(s, Option::go), s.answer(Option::go, OptionReply::ack); }},
      {"half an info",
       [](WireServer& s) {
         up_to(s, Option::go);
         s.answer(Option::go, OptionReply::info, std::string(5, '\0'));
       }},
      {"endless infos",
       [](WireServer& s) {
         up_to(s, Option::go);
         for (unsigned i = 0; i <= ClientHandshake::kAnswersMax + 1; ++i) {
           s.answer(Option::go, OptionReply::info, WireServer::export_info({}));
         }
       }},
      {"more than 2^63 bytes",
       [&](WireServer& s) {
         up_to(s, Option::go);
         s.answer(Option::go, OptionReply::info, big);
         s.answer(Option::go, OptionReply::ack);
       }},
      {"no flags",
       [&](WireServer& s) {
         up_to(s, Option::go);
         s.answer(Option::go, OptionReply::info, no_flags);
         s.answer(Option::go, OptionReply::ack);
       }},
  };
  for (const auto& [what, script] : scripts) {
    Result<ClientAgreement> agreement = enter(script);
    ASSERT_FALSE(agreement.ok()) << what;
    EXPECT_EQ(agreement.error().code, std::errc::protocol_error) << what;
  }
}

TEST_F(HandshakeTest, MetadataHasALimitAndAForm) {
  for (std::string_view data : {"", "abc"}) {
    EXPECT_NE(refused([&](WireServer& server) {
                up_to(server, Option::extended_headers);
                server.answer(Option::extended_headers, OptionReply::ack);
                server.option();
                server.answer(Option::set_meta_context, OptionReply::meta_context, data);
              }),
              "");
  }
  EXPECT_EQ(refused([&](WireServer& server) {
              up_to(server, Option::extended_headers);
              server.answer(Option::extended_headers, OptionReply::ack);
              server.option();
              for (unsigned i = 0; i <= ClientHandshake::kAnswersMax; ++i) {
                server.answer(Option::set_meta_context, OptionReply::meta_context,
                              wire_number(i) + "base:allocation");
              }
            }),
            "its answer about metadata never ends");
}

TEST_F(HandshakeTest, BlockSizesThatTheProtocolForbidsSayNothing) {
  for (auto [minimum, preferred, maximum] : {std::array{3u, 4096u, 8192u},
                                             {1u << 17, 1u << 17, 1u << 20},
                                             {512u, 256u, 8192u},
                                             {512u, 4096u, 1000u},
                                             {512u, 4096u, 5000u},
                                             {0u, 4096u, 8192u}}) {
    WireServer::Export about;
    about.block_sizes = wire_number(Info::block_size) + wire_number(minimum) +
                        wire_number(preferred) + wire_number(maximum);
    auto agreement = enter([&](WireServer& server) { server.shake_hands(about); });
    ASSERT_TRUE(agreement.ok());
    EXPECT_FALSE(agreement.value().block_sizes) << minimum;
  }
}

TEST_F(HandshakeTest, ListsWhatTheServerHas) {
  auto exports = list([](WireServer& server) {
    up_to(server, Option::list);
    for (std::string_view name : {"one", "two"}) {
      server.answer(Option::list, OptionReply::server,
                    wire_number(std::uint32_t{3}) + std::string(name) + "about it");
    }
    server.answer(Option::list, OptionReply::ack);
    EXPECT_EQ(server.option().option, Option::abort);
  });
  ASSERT_TRUE(exports.ok());
  ASSERT_EQ(exports.value().size(), 2u);
  EXPECT_EQ(exports.value()[1].name, "two");
  EXPECT_EQ(exports.value()[1].description, "about it");
}

TEST_F(HandshakeTest, AListThatIsMalformedOrEndlessIsRefused) {
  auto broken = list([](WireServer& server) {
    up_to(server, Option::list);
    server.answer(Option::list, OptionReply::server, wire_number(std::uint32_t{9}) + "short");
  });
  EXPECT_FALSE(broken.ok());
  auto endless = list([](WireServer& server) {
    up_to(server, Option::list);
    OptionReplyWire wire;
    wire.option = Option::list;
    wire.type = OptionReply::server;
    wire.length = 4;
    std::string one = wire_bytes(wire) + wire_number(std::uint32_t{0});
    std::string many;
    for (unsigned i = 0; i <= ClientHandshake::kExportsMax; ++i) many += one;
    server.send(many);
  });
  ASSERT_FALSE(endless.ok());
  EXPECT_EQ(endless.error().message(), "its list of exports never ends");
}

TEST_F(HandshakeTest, AGateThatClosesEndsEveryWait) {
  SocketPair pair;
  SocketStream stream(std::move(pair.ours));
  Gate closing(loop);
  ClientHandshake handshake(loop, closing, stream, wishes);
  class Close final : public Job {
   public:
    explicit Close(Gate& gate) : gate_(gate) {}
    virtual ~Close() = default;
    void run() noexcept override { gate_.close(); }

   private:
    Gate& gate_;
  } close(closing);
  loop.defer(close);
  auto agreement = loop.run([&] { return handshake.enter_export(); });
  ASSERT_FALSE(agreement.ok());
  EXPECT_EQ(agreement.error().code, std::errc::operation_canceled);
}

}  // namespace
}  // namespace nbdkit
