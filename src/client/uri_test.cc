// SPDX-License-Identifier: BSD-3-Clause
#include "client/uri.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace nbdkit {
namespace {

NbdUri parsed(std::string_view text) {
  Result<NbdUri> uri = parse_uri(text);
  EXPECT_TRUE(uri.ok()) << text << ": " << uri.error().message();
  return uri.ok() ? std::move(uri).value() : NbdUri{};
}

TEST(Uri, AHostHasAPortAndAnExport) {
  NbdUri uri = parsed("nbd://example.com:1234/disk/one");
  const auto& tcp = std::get<RemoteTcp>(uri.address);
  EXPECT_EQ(tcp.host, "example.com");
  EXPECT_EQ(tcp.port, "1234");
  EXPECT_EQ(uri.export_name, "disk/one");
  EXPECT_FALSE(uri.tls);
}

TEST(Uri, WhatIsLeftOutHasADefault) {
  NbdUri uri = parsed("nbd://");
  EXPECT_EQ(std::get<RemoteTcp>(uri.address).host, "localhost");
  EXPECT_EQ(std::get<RemoteTcp>(uri.address).port, "10809");
  EXPECT_EQ(uri.export_name, "");
  EXPECT_EQ(std::get<RemoteVsock>(parsed("nbd+vsock:///x").address).cid, 2u);
}

TEST(Uri, AnAddressOfIpVersion6StandsInBrackets) {
  NbdUri uri = parsed("nbds://[::1]:10810/");
  EXPECT_EQ(std::get<RemoteTcp>(uri.address).host, "::1");
  EXPECT_EQ(std::get<RemoteTcp>(uri.address).port, "10810");
  EXPECT_EQ(to_string(uri.address), "[::1]:10810");
  EXPECT_TRUE(uri.tls);
}

TEST(Uri, AUnixSocketIsInTheQuery) {
  NbdUri uri = parsed("nbd+unix:///name?socket=/tmp/a%20b");
  EXPECT_EQ(std::get<RemoteUnix>(uri.address).path, "/tmp/a b");
  EXPECT_EQ(uri.export_name, "name");
  EXPECT_EQ(parsed("nbd+unix://?socket=x").export_name, "");
}

TEST(Uri, VsockHasNumbers) {
  NbdUri uri = parsed("nbds+vsock://7:4000000000/e");
  EXPECT_EQ(std::get<RemoteVsock>(uri.address).cid, 7u);
  EXPECT_EQ(std::get<RemoteVsock>(uri.address).port, 4'000'000'000u);
  EXPECT_TRUE(uri.tls);
}

TEST(Uri, PercentSignsAreDecodedInEveryPart) {
  EXPECT_EQ(parsed("nbd://h/%e2%82%AC%2F%3f").export_name, "\xe2\x82\xac/?");
  EXPECT_EQ(parsed("nbd://a%6c@h/").user, "al");
}

TEST(Uri, WhatTlsNeedsIsInTheQuery) {
  NbdUri uri = parsed("nbds://me@h/?tls-psk-file=/k&tls-certificates=/c&tls-verify-peer=false&x=y");
  EXPECT_EQ(uri.user, "me");
  EXPECT_EQ(uri.tls_psk_file, "/k");
  EXPECT_EQ(uri.tls_certificates, "/c");
  EXPECT_FALSE(uri.tls_verify_peer);
}

TEST(Uri, WhatIsWrongIsRefusedInOneSentence) {
  for (std::string_view text : {"",
                                "nbd:",
                                "example.com",
                                "http://h/",
                                "nbd+tcp://h/",
                                "nbd+://h/",
                                "nbd://h/#x",
                                "nbd://[::1/",
                                "nbd://[::1]x/",
                                "nbd://-oProxyCommand=x/",
                                "nbd://%2dh/",
                                "nbd://-u@h/",
                                "nbd://%2du@h/",
                                "nbd://h:-1/",
                                "nbd+unix:///x",
                                "nbd+unix://host/?socket=/s",
                                "nbd+unix:///?socket=",
                                "nbd://h/?socket=/s",
                                "nbd+vsock://x/",
                                "nbd+vsock://1:99999999999/",
                                "nbd+vsock://-1/",
                                "nbd://h/%",
                                "nbd://h/%4",
                                "nbd://h/%zz",
                                "nbd://h/a%00b",
                                "nbds://h/?tls-verify-peer=perhaps"}) {
    Result<NbdUri> uri = parse_uri(text);
    ASSERT_FALSE(uri.ok()) << text;
    EXPECT_NE(uri.error().message().find(fmt::format("'{}'", text)), std::string::npos);
  }
}

TEST(Uri, NamesHaveTheLimitsOfTheProtocolAndOfTheKernel) {
  EXPECT_TRUE(parse_uri("nbd://h/" + std::string(4096, 'e')).ok());
  EXPECT_FALSE(parse_uri("nbd://h/" + std::string(4097, 'e')).ok());
  EXPECT_TRUE(parse_uri("nbd+unix:///?socket=/" + std::string(106, 's')).ok());
  EXPECT_FALSE(parse_uri("nbd+unix:///?socket=/" + std::string(107, 's')).ok());
}

}  // namespace
}  // namespace nbdkit
