// SPDX-License-Identifier: BSD-3-Clause
#include "tls/stream.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "async/post.h"
#include "async/readiness.h"
#include "support/real_loop.h"
#include "support/socket_pair.h"
#include "support/tls_files.h"
#include "support/wire_tls.h"

namespace nbdkit {
namespace {

std::string pattern(std::size_t length) {
  std::mt19937 random(1);
  std::string text(length, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

// One side's stream, on a loop of its own, in a thread of its own or in the test's.
struct Side {
  explicit Side(UniqueFd fd) : socket(std::move(fd)) {}

  Result<void> shake_hands(Result<std::unique_ptr<TlsStream>> made) {
    if (!made.ok()) return std::move(made).error();
    tls = std::move(made).value();
    return loop.run([&] { return tls->handshake(loop, gate, TlsStream::Kernel::when_offered); });
  }
  Result<void> serve(TlsCredentials::Shared credentials) {
    return shake_hands(TlsStream::server(socket, std::move(credentials)));
  }
  Result<void> call(TlsCredentials::Shared credentials, const std::string& host = "localhost") {
    return shake_hands(TlsStream::client(socket, std::move(credentials), host));
  }

  Task<void> wait(std::uint32_t events) { return wait_ready(loop, gate, tls->fd(), events); }

  // All of it, in two pieces.
  Task<void> send_all(std::string_view bytes) {
    while (!bytes.empty()) {
      std::size_t half = bytes.size() / 2;
      std::array<iovec, 2> pieces{{{const_cast<char*>(bytes.data()), half},
                                   {const_cast<char*>(bytes.data()) + half, bytes.size() - half}}};
      Result<std::size_t> sent = tls->send(pieces);
      if (sent.ok()) {
        bytes.remove_prefix(sent.value());
        continue;
      }
      if (sent.error().code != std::errc::resource_unavailable_try_again) {
        co_await fail(std::move(sent).error());
      }
      ++send_waits;
      co_await wait(EPOLLOUT);
    }
  }
  // To the end of the stream, `room` bytes at a time.
  Task<std::string> receive_all(std::size_t room) {
    std::string all;
    std::string buffer(room, '\0');
    for (;;) {
      iovec piece{buffer.data(), buffer.size()};
      Result<std::size_t> received = tls->receive(std::span(&piece, 1));
      if (received.ok() && received.value() == 0) break;
      if (received.ok()) {
        EXPECT_TRUE(tls->holds_more() || received.value() < room);
        all.append(buffer, 0, received.value());
        continue;
      }
      if (received.error().code != std::errc::resource_unavailable_try_again) {
        co_await fail(std::move(received).error());
      }
      EXPECT_FALSE(tls->holds_more());
      co_await wait(EPOLLIN);
    }
    co_return all;
  }

  // Until the other side says goodbye.
  Task<void> echo() {
    std::array<char, 100> buffer;
    for (;;) {
      iovec piece{buffer.data(), buffer.size()};
      Result<std::size_t> received = tls->receive(std::span(&piece, 1));
      if (received.ok() && received.value() == 0) break;
      if (received.ok()) {
        co_await send_all(std::string_view(buffer.data(), received.value()));
        continue;
      }
      if (received.error().code != std::errc::resource_unavailable_try_again) {
        co_await fail(std::move(received).error());
      }
      co_await wait(EPOLLIN);
    }
  }

  RealLoop loop;
  Gate gate{loop};
  SocketStream socket;
  std::unique_ptr<TlsStream> tls;
  unsigned send_waits = 0;
};

struct TlsStreamTest : testing::Test {
  // Both ends shake hands; what the two have to say about it.
  void meet(const ServerTls& of_server, const ClientTls& of_client,
            const std::string& host = "localhost") {
    Result<void> served = std::errc::interrupted;
    std::thread other([&] { served = server.serve(load(of_server)); });
    Result<void> called = client.call(load(of_client), host);
    if (!called.ok()) ::shutdown(pair_fd, SHUT_RDWR);
    other.join();
    said_server = served.ok() ? "" : served.error().message();
    said_client = called.ok() ? "" : called.error().message();
  }
  void expect_part(const std::string& text, std::string_view part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  }

  TlsFiles files;
  SocketPair pair;
  const int pair_fd = pair.ours.get();
  Side server{std::move(pair.theirs)};
  Side client{std::move(pair.ours)};
  std::string said_server, said_client;
};

// More than any buffer takes, so that the sender has to wait in the middle of a record.
void expect_transfer(Side& from, Side& to, std::size_t room) {
  const std::string data = pattern(5'000'003);
  Result<std::string> received = std::errc::interrupted;
  std::thread other([&] { received = to.loop.run([&] { return to.receive_all(room); }); });
  EXPECT_TRUE(from.loop.run([&] { return from.send_all(data); }).ok());
  ::shutdown(from.tls->fd(), SHUT_WR);
  other.join();
  ASSERT_TRUE(received.ok()) << received.error().message();
  EXPECT_TRUE(received.value() == data);
  EXPECT_GT(from.send_waits, 0u);
}

TEST_F(TlsStreamTest, WhatTheServerSendsTheClientReceives) {
  meet(files.server(), files.client());
  ASSERT_EQ(said_server + said_client, "");
  expect_transfer(server, client, 300'000);
}

TEST_F(TlsStreamTest, WhatTheClientSendsTheServerReceives) {
  meet(files.server(), files.client());
  ASSERT_EQ(said_server + said_client, "");
  expect_transfer(client, server, 300'000);
}

TEST_F(TlsStreamTest, SmallRoomsGetEveryByte) {
  meet(files.server(), files.client());
  ASSERT_EQ(said_server + said_client, "");
  expect_transfer(client, server, 777);
}

// With a socket that stays open.
TEST_F(TlsStreamTest, AGoodbyeIsTheEndOfTheStream) {
  meet(files.server(), files.client());
  ASSERT_EQ(said_server + said_client, "");
  server.tls->say_goodbye();
  Result<std::string> received = client.loop.run([&] { return client.receive_all(100); });
  ASSERT_TRUE(received.ok());
  EXPECT_EQ(received.value(), "");
}

TEST_F(TlsStreamTest, KeysServeInsteadOfCertificates) {
  meet(files.server_with_keys(), files.client_with_key("bob"));
  EXPECT_EQ(said_server + said_client, "");
  EXPECT_EQ(server.tls->peer().name, "");
  expect_transfer(server, client, 300'000);
}

TEST_F(TlsStreamTest, AWrongKeyIsRefused) {
  ClientTls wrong = files.client_with_key("alice");
  std::filesystem::copy(files.path("keys.psk"), files.path("wrong.psk"));
  std::ofstream(files.path("wrong.psk")) << "alice:00112233445566778899aabbccddeeff\n";
  wrong.psk_file = files.path("wrong.psk");
  meet(files.server_with_keys(), wrong);
  expect_part(said_server, "TLS handshake: ");
  expect_part(said_client, "TLS handshake: ");
}

TEST_F(TlsStreamTest, OldProtocolsWithTheirOwnRecordsWork) {
  ClientTls old = files.client();
  old.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
  meet(files.server(), old);
  ASSERT_EQ(said_server + said_client, "");
  expect_part(server.tls->description(), "TLS1.2");
  expect_transfer(server, client, 300'000);
}

TEST_F(TlsStreamTest, PrioritiesWithoutACommonOneAreRefused) {
  ServerTls only_new = files.server();
  only_new.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.3";
  ClientTls only_old = files.client();
  only_old.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
  meet(only_new, only_old);
  expect_part(said_server, "TLS handshake: ");
  expect_part(said_client, "TLS handshake: the other side refuses: ");
}

TEST_F(TlsStreamTest, AServerOfAnotherAuthorityIsRefused) {
  meet(files.server("other"), files.client());
  expect_part(said_client, "The certificate issuer is unknown");
  EXPECT_NE(said_server, "");
}

TEST_F(TlsStreamTest, AServerOfAnotherNameIsRefused) {
  meet(files.server(), files.client(), "example.com");
  expect_part(said_client, "does not match");
}

TEST_F(TlsStreamTest, AServerMayBeKnownByItsAddress) {
  meet(files.server(), files.client(), "127.0.0.1");
  EXPECT_EQ(said_server + said_client, "");
}

TEST_F(TlsStreamTest, AServerMayHaveSeveralNames) {
  meet(files.server("two"), files.client(), "example.com");
  EXPECT_EQ(said_server + said_client, "");
}

TEST_F(TlsStreamTest, WhoDoesNotVerifyTakesAnyServer) {
  ClientTls trusting = files.client();
  trusting.verify_peer = false;
  meet(files.server("other"), trusting, "example.com");
  EXPECT_EQ(said_server + said_client, "");
}

TEST_F(TlsStreamTest, AClientShowsItsCertificateWhenItIsAsked) {
  ServerTls strict = files.server();
  strict.verify_peer = true;
  meet(strict, files.client());
  EXPECT_EQ(said_server + said_client, "");
  EXPECT_EQ(server.tls->peer().name, "CN=a client,O=Test");
  EXPECT_EQ(server.tls->peer().issuer, "CN=Test Authority");
}

TEST_F(TlsStreamTest, AClientWithoutACertificateIsRefused) {
  ServerTls strict = files.server();
  strict.verify_peer = true;
  std::filesystem::remove(files.path("pki/client-cert.pem"));
  std::filesystem::remove(files.path("pki/client-key.pem"));
  meet(strict, files.client());
  expect_part(said_server, "Certificate is required");
}

TEST_F(TlsStreamTest, AClientOfAnotherAuthorityIsRefused) {
  ServerTls strict = files.server();
  strict.verify_peer = true;
  ClientTls stranger = files.client("other");
  stranger.verify_peer = false;
  meet(strict, stranger);
  expect_part(said_server, "Certificate is required");
}

TEST_F(TlsStreamTest, ARevokedClientIsRefused) {
  ServerTls strict = files.server("revoked");
  strict.verify_peer = true;
  meet(strict, files.client());
  expect_part(said_server, "revoked");
}

TEST_F(TlsStreamTest, AClosingGateEndsTheHandshake) {
  Result<std::unique_ptr<TlsStream>> made = TlsStream::server(server.socket, load(files.server()));
  ASSERT_TRUE(made.ok());
  server.tls = std::move(made).value();
  Result<void> ended = server.loop.run([&] {
    Task<void> task =
        server.tls->handshake(server.loop, server.gate, TlsStream::Kernel::when_offered);
    // From a turn of its own: the Task waits by then, or is with a worker.
    post(server.loop, [&] { server.gate.close(); });
    return task;
  });
  ASSERT_FALSE(ended.ok());
  EXPECT_EQ(ended.error().code, std::errc::operation_canceled);
}

TEST_F(TlsStreamTest, WhatIsNoTlsIsRefused) {
  ASSERT_EQ(::send(pair_fd, "GET / HTTP/1.0\r\n\r\n", 18, 0), 18);
  Result<void> served = server.serve(load(files.server()));
  ASSERT_FALSE(served.ok());
  expect_part(served.error().message(), "TLS handshake: ");
}

// GnuTLS's clients do so by themselves after 2^24 records.
TEST_F(TlsStreamTest, TheOtherSideMayChangeItsKeys) {
  std::string said;
  std::thread other([&] {
    WireTls wire(pair_fd, {files.path("pki")});
    said = wire.handshake();
    if (!said.empty()) return;
    for (int i = 0; i < 6; ++i) {
      EXPECT_EQ(wire.change_keys(i >= 3), 0);
      EXPECT_EQ(wire.send("hello"), 5);
      std::array<char, 5> back;
      EXPECT_EQ(wire.receive(back.data(), back.size()), 5);
    }
    wire.say_goodbye();
  });
  Result<void> served = server.serve(load(files.server()));
  EXPECT_TRUE(served.ok());
  Result<void> echoed = server.loop.run([&]() { return server.echo(); });
  other.join();
  EXPECT_EQ(said, "");
  EXPECT_TRUE(echoed.ok()) << echoed.error().message();
}

}  // namespace
}  // namespace nbdkit
