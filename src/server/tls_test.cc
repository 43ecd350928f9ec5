// SPDX-License-Identifier: BSD-3-Clause
// STARTTLS, and what it must not let through.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <string>
#include <utility>

#include "support/socket_pair.h"
#include "support/stack.h"
#include "support/test_server.h"
#include "support/tls_files.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kSize = 1 << 20;

// Tells what a client has got hold of. The export "secret" is for clients with TLS only.
class WatchedLayer final : public Layer {
 public:
  Contract contract() const override { return disk.contract(); }
  Task<void> preconnect(Context&) override { return Result<void>(); }
  Task<std::vector<ExportEntry>> list_exports(Context& context) override {
    ++asked;
    std::vector<ExportEntry> exports{{"", {}}, {"secret", {}}};
    static_cast<void>(context);
    return Result<std::vector<ExportEntry>>(std::move(exports));
  }
  Task<std::string> default_export(Context&) override {
    ++asked;
    return Result<std::string>("");
  }
  Task<DevicePtr> open(Context& context) override {
    ++asked;
    peer_name = context.peer.tls_name;
    if (context.export_name == "secret" && !context.tls) {
      return Result<DevicePtr>(Error(kNeedsTls, "only with TLS"));
    }
    return disk.open(context);
  }

  ScriptedLayer disk{kSize};
  std::atomic<int> asked{0};  // how often anything was asked of it
  std::string peer_name;
};

struct TlsTest : testing::Test {
  // With certificates unless a test has said otherwise. Null credentials: without TLS.
  void start(TlsCredentials::Shared credentials, bool required = false,
             Nanoseconds limit = Nanoseconds(0)) {
    ServerOptions options;
    options.handshake.tls = std::move(credentials);
    options.handshake.tls_required = required;
    options.handshake.limit = limit;
    auto layer = std::make_unique<WatchedLayer>();
    disk = layer.get();
    server.emplace(std::move(layer), options);
  }
  WireClient connect() {
    WireClient client = server->connect();
    client.greet();
    return client;
  }
  WireTls::Identity identity() { return {files.path("pki")}; }
  WireClient connect_tls() {
    WireClient client = connect();
    EXPECT_EQ(client.start_tls(identity()), "");
    return client;
  }
  OptionReply answer(WireClient& client, Option option, std::string_view data = {}) {
    return client.option(option, data).back().type;
  }
  void expect_logged(std::string_view part) {
    server->stop();
    EXPECT_NE(server->log().find(part), std::string::npos) << server->log();
  }

  TlsFiles files;
  WatchedLayer* disk = nullptr;  // The server owns it.
  std::optional<TestServer> server;
};

std::string pattern(std::size_t length) {
  std::string text(length, '\0');
  for (std::size_t i = 0; i < length; ++i) text[i] = static_cast<char>(i * 31 + (i >> 8));
  return text;
}

TEST_F(TlsTest, DataGoesThroughTls) {
  start(load(files.server()));
  WireClient client = connect_tls();
  EXPECT_EQ(client.choose("", true).size, kSize);
  std::string data = pattern(700'000);
  EXPECT_EQ(client.write(4096, data).error, 0u);
  EXPECT_TRUE(client.read(4096, 700'000).data == data);
  EXPECT_EQ(client.read(kSize, 1).error, 22u);
  client.request(Command::disconnect, 1, 0, 0);
  EXPECT_TRUE(client.at_end());
}

TEST_F(TlsTest, ClientsMayDoWithoutUnlessTheyMust) {
  start(load(files.server()));
  WireClient client = connect();
  EXPECT_EQ(client.choose().size, kSize);
  EXPECT_EQ(client.write(0, "plain").error, 0u);
}

TEST_F(TlsTest, ServersWithoutTlsSaySo) {
  start(nullptr);
  WireClient client = connect();
  EXPECT_EQ(answer(client, Option::starttls), OptionReply::policy);
  EXPECT_EQ(client.choose().size, kSize);
}

TEST_F(TlsTest, ItIsStartedOnceAndWithoutData) {
  start(load(files.server()));
  WireClient client = connect();
  EXPECT_EQ(answer(client, Option::starttls, "x"), OptionReply::invalid);
  EXPECT_EQ(client.start_tls(identity()), "");
  EXPECT_EQ(answer(client, Option::starttls), OptionReply::invalid);
  EXPECT_EQ(client.choose().size, kSize);
}

// They wait, decrypted, behind the option that ends the handshake, and nothing more comes from the
// socket.
TEST_F(TlsTest, RequestsInOneRecordAreAllServed) {
  start(load(files.server()));
  WireClient client = connect_tls();
  std::string bytes;
  OptionWire go;
  const std::string name = WireClient::go_data("");
  go.magic = kOptionMagic;
  go.option = Option::go;
  go.length = static_cast<std::uint32_t>(name.size());
  bytes.append(reinterpret_cast<const char*>(&go), sizeof go);
  bytes += name;
  constexpr unsigned kCount = 300;  // More than are under way at once; 13 KB.
  for (unsigned i = 0; i < kCount; ++i) {
    bytes += WireClient::packet(Command::write, i, i * 16, 16, 0, pattern(16));
  }
  client.send(bytes);
  while (client.option_answer().type != OptionReply::ack) {
  }
  for (unsigned i = 0; i < kCount; ++i) EXPECT_EQ(client.answer().cookie, i);
}

TEST_F(TlsTest, KeysMayChangeInTheMiddle) {
  start(load(files.server()));
  WireClient client = connect_tls();
  client.choose();
  for (bool both : {false, true, false}) {
    EXPECT_EQ(client.tls().change_keys(both), 0);
    EXPECT_EQ(client.write(0, "changed").error, 0u);
    EXPECT_EQ(client.read(0, 7).data, "changed");
  }
}

// CVE-2021-3716: what somebody in between has put behind STARTTLS must not be taken for what the
// client says under TLS.
TEST_F(TlsTest, PlainBytesBehindStartTlsEndTheConnection) {
  start(load(files.server()));
  const std::string name = WireClient::go_data("");
  for (Option injected : {Option::list, Option::structured_reply, Option::go}) {
    WireClient client = connect();
    auto option = [](Option which, std::string_view data) {
      OptionWire wire;
      wire.magic = kOptionMagic;
      wire.option = which;
      wire.length = static_cast<std::uint32_t>(data.size());
      return std::string(reinterpret_cast<const char*>(&wire), sizeof wire) + std::string(data);
    };
    client.send(option(Option::starttls, "") +
                option(injected, injected == Option::go ? name : ""));
    EXPECT_EQ(client.option_answer().type, OptionReply::ack);
    std::string rest;
    char byte;
    while (::recv(client.fd(), &byte, 1, 0) == 1) rest.push_back(byte);
    EXPECT_LE(rest.size(), 7u) << "more than an alert of TLS";
  }
  EXPECT_EQ(disk->asked, 0);
  expect_logged("TLS handshake: ");
}

// The same CVE: what was agreed on in plain text counts for nothing.
TEST_F(TlsTest, WhatWasAgreedOnBeforeIsForgotten) {
  start(load(files.server()));
  WireClient client = connect();
  const std::string status = WireClient::meta_data("", {"base:allocation"});
  EXPECT_EQ(answer(client, Option::extended_headers), OptionReply::ack);
  EXPECT_EQ(answer(client, Option::set_meta_context, status), OptionReply::ack);
  EXPECT_EQ(client.start_tls(identity()), "");
  EXPECT_EQ(answer(client, Option::set_meta_context, status), OptionReply::invalid)
      << "there are no structured replies any more";
  WireClient::Export info = client.choose();
  EXPECT_FALSE(info.flags & transmission_flag::kDontFragment);
  EXPECT_FALSE(client.read(0, 512).structured);
  EXPECT_EQ(client.call(Command::block_status, 0, 512).error, 22u);
}

TEST_F(TlsTest, StructuredRepliesMayBeAgreedOnAnew) {
  start(load(files.server()));
  WireClient client = connect();
  EXPECT_EQ(answer(client, Option::structured_reply), OptionReply::ack);
  EXPECT_EQ(client.start_tls(identity()), "");
  EXPECT_EQ(answer(client, Option::structured_reply), OptionReply::ack);
}

TEST_F(TlsTest, WithoutTlsNothingIsToBeHadWhereItIsRequired) {
  start(load(files.server()), true);
  WireClient client = connect();
  const std::string name = WireClient::go_data("");
  for (Option option :
       {Option::list, Option::info, Option::go, Option::structured_reply, Option::extended_headers,
        Option::list_meta_context, Option::set_meta_context, static_cast<Option>(99)}) {
    EXPECT_EQ(answer(client, option, name), OptionReply::tls_required) << static_cast<int>(option);
  }
  EXPECT_EQ(answer(client, Option::info, std::string(70'000, 'x')), OptionReply::tls_required);
  EXPECT_EQ(answer(client, Option::abort), OptionReply::ack);
  EXPECT_TRUE(client.at_end());
  WireClient old = connect();
  old.send_option(Option::export_name, "");
  EXPECT_TRUE(old.at_end());
  EXPECT_EQ(disk->asked, 0);
  EXPECT_EQ(connect_tls().choose().size, kSize);
}

// CVE-2019-14850: whoever only connects must not cost what an open export costs.
TEST_F(TlsTest, NothingIsOpenedBeforeTheNegotiationEnds) {
  start(load(files.server()), true);
  {
    WireClient silent = server->connect();
    WireClient greeted = connect();
    WireClient half_way = connect();
    EXPECT_EQ(answer(half_way, Option::starttls), OptionReply::ack);
    WireClient undecided = connect_tls();
    EXPECT_EQ(answer(undecided, Option::structured_reply), OptionReply::ack);
    EXPECT_EQ(disk->asked, 0);
  }
  connect_tls().choose();
  EXPECT_NE(disk->asked, 0);
}

TEST_F(TlsTest, AnExportMayBeForTlsOnly) {
  start(load(files.server()));
  WireClient client = connect();
  EXPECT_EQ(client.option(Option::list).size(), 3u) << "and is listed for everybody";
  const std::string secret = WireClient::go_data("secret");
  for (Option option : {Option::info, Option::go}) {
    WireClient::OptionAnswer refused = client.option(option, secret).back();
    EXPECT_EQ(refused.type, OptionReply::tls_required);
    EXPECT_EQ(refused.data, "only with TLS");
  }
  EXPECT_EQ(answer(client, Option::info, WireClient::go_data("open")), OptionReply::ack);
  EXPECT_EQ(client.start_tls(identity()), "");
  EXPECT_EQ(client.choose("secret").size, kSize);
}

// NBD protocol, NBD_REP_ERR_TLS_REQD: not from a server that has none.
TEST_F(TlsTest, AnExportForTlsOnlyIsUnknownWhereThereIsNone) {
  start(nullptr);
  WireClient client = connect();
  EXPECT_EQ(answer(client, Option::go, WireClient::go_data("secret")), OptionReply::unknown);
}

TEST_F(TlsTest, LayersKnowTheClientByItsCertificate) {
  ServerTls strict = files.server();
  strict.verify_peer = true;
  start(load(strict));
  connect_tls().choose();
  EXPECT_EQ(disk->peer_name, "CN=a client,O=Test");
}

TEST_F(TlsTest, AClientThatIsRefusedGetsNoFurther) {
  ServerTls strict = files.server();
  strict.verify_peer = true;
  start(load(strict));
  WireClient client = connect();
  WireTls::Identity nobody = identity();
  nobody.shows_certificate = false;
  client.start_tls(nobody);
  client.send_option(Option::list, "");
  EXPECT_TRUE(client.at_end());
  EXPECT_EQ(disk->asked, 0);
  expect_logged("Certificate is required");
}

TEST_F(TlsTest, KeysServeInsteadOfCertificates) {
  start(load(files.server_with_keys()));
  WireClient client = connect();
  WireTls::Identity alice;
  alice.psk_file = files.path("keys.psk");
  alice.username = "alice";
  EXPECT_EQ(client.start_tls(alice), "");
  EXPECT_EQ(client.choose().size, kSize);
  WireClient stranger = connect();
  alice.username = "mallory";
  EXPECT_NE(stranger.start_tls(alice), "");
}

TEST_F(TlsTest, AClientThatDoesNotGoOnIsDropped) {
  start(load(files.server()), false, Milliseconds(50));
  WireClient client = connect();
  EXPECT_EQ(answer(client, Option::starttls), OptionReply::ack);
  EXPECT_TRUE(client.at_end());
  expect_logged("the handshake took more than");
}

TEST_F(TlsTest, ItsConnectionsCannotBeMoved) {
  start(load(files.server()));
  WireClient client = connect_tls();
  client.choose();
  EXPECT_EQ(client.write(0, "before").error, 0u);
  Result<MovedConnection> moved =
      server->on_main_loop([&] { return server->server().take_over(1, Seconds(10)); });
  ASSERT_FALSE(moved.ok());
  EXPECT_EQ(moved.error().code, std::errc::operation_not_permitted);
  EXPECT_NE(moved.error().detail().find("encrypted"), std::string::npos);
  EXPECT_EQ(client.read(0, 6).data, "before") << "it is served on";
}

TEST_F(TlsTest, StopFinishesWhatIsUnderWay) {
  start(load(files.server()));
  disk->disk.set_delay(Milliseconds(50));
  WireClient client = connect_tls();
  client.choose();
  client.request(Command::write, 7, 0, 5, 0, "hello");
  while (disk->disk.arrived == 0) std::this_thread::yield();
  server->stop();
  EXPECT_EQ(client.answer().cookie, 7u);
  EXPECT_TRUE(client.at_end());
}

}  // namespace
}  // namespace nbdkit
