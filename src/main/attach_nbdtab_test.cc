// SPDX-License-Identifier: BSD-3-Clause
#include "main/attach_nbdtab.h"

#include <gtest/gtest.h>

#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

using Words = std::vector<std::string>;

NbdtabLine line_of(std::string_view text, std::string_view device = "/dev/nbd0") {
  Result<NbdtabLine> line = find_in_nbdtab(text, "FILE", device);
  if (line.ok()) return std::move(line).value();
  return {{std::string(line.error().message())}, {}};
}

std::string refusal_of(std::string_view text) {
  Result<NbdtabLine> line = find_in_nbdtab(text, "FILE", "nbd0");
  if (line.ok()) return "accepted";
  EXPECT_EQ(exit_code_of(line.error()), ExitCode::usage);
  return std::string(line.error().message());
}

TEST(NbdtabTest, TheFirstLineOfTheDeviceCounts) {
  constexpr std::string_view kText =
      "# nbd0 not this\n"
      "\n"
      "nbd1 one.example.com data # nor this\n"
      "  nbd0\t two.example.com  data \r\n"
      "nbd0 three.example.com data";
  EXPECT_EQ(line_of(kText).plugin, (Words{"nbd://two.example.com/data"}));
  EXPECT_EQ(line_of(kText, "nbd1").plugin, (Words{"nbd://one.example.com/data"}));
}

TEST(NbdtabTest, OptionsOfConnections) {
  NbdtabLine line = line_of("nbd0 host a%20b?x port=10810,conns=4,timeout=30,swap,_theirs=1");
  EXPECT_EQ(line.options, (Words{"--connections=4", "--timeout=30", "--swap"}));
  EXPECT_EQ(line.plugin, (Words{"nbd://host:10810/a%2520b%3Fx"}));
  line = line_of("nbd0 2001:db8::1 data persist");
  EXPECT_EQ(line.plugin, (Words{"nbd", "uri=nbd://[2001:db8::1]/data"}));
  line = line_of("nbd0 /run/a&b.sock data unix,_nbdkit-no-scan,_nbdkit-name=root");
  EXPECT_EQ(line.options, (Words{"--no-scan", "--name=root"}));
  EXPECT_EQ(line.plugin, (Words{"nbd+unix:///data?socket=/run/a%26b.sock"}));
  line = line_of("nbd0 host data _nbdkit-keeps-unflushed");
  EXPECT_EQ(line.plugin, (Words{"nbd://host/data", "keeps-unflushed=true"}));
  line = line_of("nbd0 host data cacertfile=/etc/pki/ca-cert.pem,keyfile=/etc/pki/client-key.pem");
  EXPECT_EQ(line.plugin, (Words{"nbds://host/data?tls-certificates=/etc/pki"}));
}

TEST(NbdtabTest, PluginsHaveParameters) {
  NbdtabLine line = line_of("nbd0 plugin:file - - /srv/disk.img direct=true");
  EXPECT_EQ(line.options, Words{});
  EXPECT_EQ(line.plugin, (Words{"file", "/srv/disk.img", "direct=true"}));
  line = line_of("nbd0 plugin:memory two _nbdkit-read-only,timeout=5 1M");
  EXPECT_EQ(line.options, (Words{"--read-only", "--timeout=5", "--export=two"}));
  EXPECT_EQ(line.plugin, (Words{"memory", "1M"}));
}

TEST(NbdtabTest, WhatCannotBeDoneIsRefusedWithItsPlace) {
  EXPECT_EQ(refusal_of("\nnbd0 host data bs=4096"),
            "FILE:2: bs=4096: the export says how large blocks are; take it out");
  EXPECT_EQ(refusal_of("nbd0 host"), "FILE:1: a line needs a device, a host and an export");
  EXPECT_EQ(refusal_of("nbd0 host data sdq"),
            "FILE:1: sdq: not an option of nbdtab(5); those of others begin with _");
  for (const char* wrong : {"sdp", "no_optgo", "tlshostname=x", "conns=two", "port=", "swap=1",
                            "certfile=cert.pem", "certfile=/a/cert.pem", "timeout", "unix",
                            "cacertfile=/a/ca-cert.pem,keyfile=/b/client-key.pem"}) {
    EXPECT_EQ(refusal_of(std::string("nbd0 host data ") + wrong).substr(0, 8), "FILE:1: ") << wrong;
  }
  for (const char* wrong :
       {"-host data", "host data - more", "plugin: - ", "plugin:file - persist"}) {
    EXPECT_EQ(refusal_of(std::string("nbd0 ") + wrong).substr(0, 8), "FILE:1: ") << wrong;
  }
}

TEST(NbdtabTest, ADeviceWithoutALineIsNamed) {
  EXPECT_NE(refusal_of("nbd1 host data bs=1\n").find("a line of nbd0 in FILE"), std::string::npos);
}

}  // namespace
}  // namespace nbdkit
