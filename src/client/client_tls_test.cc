// SPDX-License-Identifier: BSD-3-Clause
// The client with TLS, against a server of ours.
#include <gtest/gtest.h>

#include <optional>

#include "client/remote_export.h"
#include "support/real_loop.h"
#include "support/stack.h"
#include "support/test_server.h"
#include "support/tls_files.h"
#include "support/unix_listener.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kSize = 4 << 20;

struct ClientTlsTest : testing::Test {
  ~ClientTlsTest() override {
    if (!remote) return;
    EXPECT_TRUE(loop.run([&] { return remote->close(); }).ok());
  }

  // Null credentials: a server without TLS.
  void serve(TlsCredentials::Shared credentials, bool required = false) {
    ServerOptions server_options;
    server_options.handshake.tls = std::move(credentials);
    server_options.handshake.tls_required = required;
    server.emplace(std::make_unique<ScriptedLayer>(kSize), server_options);
    listener.emplace(
        [this](UniqueFd socket) { EXPECT_TRUE(server->start(std::move(socket), {}).ok()); });
    options.address = RemoteUnix{listener->path()};
  }
  Result<void> open(TlsMode mode, const ClientTls& with, std::string host = "localhost") {
    options.wishes.tls = mode;
    options.wishes.credentials = load(with);
    options.wishes.tls_host = std::move(host);
    remote = std::make_unique<RemoteExport>(loop, gate, log, options, lost);
    return loop.run([&] { return remote->open(); });
  }
  // Much and little, there and back.
  void expect_data() {
    for (std::size_t length : {std::size_t{1}, std::size_t{4096}, std::size_t{3} << 20}) {
      std::string data(length, static_cast<char>(length));
      auto from = std::as_bytes(std::span(data));
      ASSERT_TRUE(loop.run([&] { return remote->write(512, from, 0); }).ok());
      std::string back(length, '.');
      auto into = std::as_writable_bytes(std::span(back));
      ASSERT_TRUE(loop.run([&] { return remote->read(512, into); }).ok());
      EXPECT_EQ(back, data);
    }
  }

  TlsFiles files;
  RealLoop loop;
  Gate gate{loop};
  Log log{"test", false};
  LostWrites lost;
  RemoteOptions options;
  std::optional<TestServer> server;
  std::optional<UnixListener> listener;
  std::unique_ptr<RemoteExport> remote;
};

TEST_F(ClientTlsTest, CertificatesProtectWhatIsSent) {
  serve(load(files.server()), true);
  ASSERT_TRUE(open(TlsMode::require, files.client()).ok());
  EXPECT_TRUE(remote->agreement().tls);
  EXPECT_TRUE(remote->agreement().extended_headers);
  expect_data();
}

TEST_F(ClientTlsTest, SharedKeysProtectWhatIsSent) {
  serve(load(files.server_with_keys()), true);
  ASSERT_TRUE(open(TlsMode::require, files.client_with_key("alice")).ok());
  EXPECT_TRUE(remote->agreement().tls);
  expect_data();
}

TEST_F(ClientTlsTest, ALostConnectionIsMadeAgainWithTls) {
  serve(load(files.server()), true);
  ASSERT_TRUE(open(TlsMode::on, files.client()).ok());
  listener->break_connections();
  expect_data();
  EXPECT_EQ(listener->accepted(), 2u);
}

TEST_F(ClientTlsTest, WhoeverOnlyWantsTlsGoesOnWithoutIt) {
  serve(nullptr);
  ASSERT_TRUE(open(TlsMode::on, files.client()).ok());
  EXPECT_FALSE(remote->agreement().tls);
  expect_data();
}

TEST_F(ClientTlsTest, WhoeverRequiresTlsDoesNot) {
  serve(nullptr);
  auto opened = open(TlsMode::require, files.client());
  ASSERT_FALSE(opened.ok());
  EXPECT_NE(opened.error().message().find("no TLS, which is required"), std::string::npos);
}

TEST_F(ClientTlsTest, AServerOfAnotherNameIsNotBelieved) {
  serve(load(files.server()), true);
  auto opened = open(TlsMode::require, files.client(), "elsewhere.example.com");
  ASSERT_FALSE(opened.ok());
  EXPECT_NE(opened.error().message().find("TLS handshake"), std::string::npos);
}

// On a Unix socket there is no name to compare with.
TEST_F(ClientTlsTest, WithoutANameAnyServerOfTheAuthorityIsBelieved) {
  serve(load(files.server()), true);
  EXPECT_TRUE(open(TlsMode::require, files.client(), "").ok());
}

TEST_F(ClientTlsTest, ASocketForSomebodyElseCannotHaveTls) {
  serve(load(files.server()), true);
  options.wishes.tls = TlsMode::require;
  options.wishes.credentials = load(files.client());
  auto negotiated = loop.run([&] { return negotiate_socket(loop, gate, options); });
  ASSERT_FALSE(negotiated.ok());
  EXPECT_EQ(negotiated.error().code, std::errc::operation_not_supported);
}

}  // namespace
}  // namespace nbdkit
