// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_captive.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>

namespace nbdkit {
namespace {

std::string shell(const std::string& script) {
  FILE* out = ::popen(script.c_str(), "re");
  std::string text;
  std::array<char, 4096> buffer;
  while (std::size_t count = std::fread(buffer.data(), 1, buffer.size(), out)) {
    text.append(buffer.data(), count);
  }
  EXPECT_EQ(::pclose(out), 0);
  return text;
}

TEST(NbdUri, OfAVirtualMachineNamesThisOne) {
  Address address;
  address.vsock = true;
  address.port = 4000000000;
  EXPECT_EQ(nbd_uri(address), "nbd+vsock://1:4000000000");
}

TEST(NbdUri, NamesThePortOrTheSocketAndTheExport) {
  EXPECT_EQ(nbd_uri({"", 10809, ""}), "nbd://localhost:10809");
  EXPECT_EQ(nbd_uri({"", 10809, "a b/c&d"}), "nbd://localhost:10809/a%20b/c%26d");
  EXPECT_EQ(nbd_uri({"", 77, "x", "[::1]"}), "nbd://[::1]:77/x");
  EXPECT_EQ(nbd_uri({"/tmp/s", 0, ""}), "nbd+unix://?socket=/tmp/s");
  EXPECT_EQ(nbd_uri({"/tmp/s", 0, "x"}), "nbd+unix:///x?socket=/tmp/s");
}

TEST(NbdUri, NamesTlsWhereClientsMustUseIt) {
  Address address{"/tmp/s", 0, "x"};
  address.tls = true;
  address.tls_certificates = "a b";
  EXPECT_EQ(nbd_uri(address), "nbd+unix:///x?socket=/tmp/s");
  address.tls_required = true;
  EXPECT_EQ(nbd_uri(address), "nbds+unix:///x?socket=/tmp/s&tls-certificates=a%20b");
  address.tls_psk_file = "/keys";
  EXPECT_EQ(nbd_uri(address), "nbds+unix:///x?socket=/tmp/s&tls-psk-file=/keys");
  address.unix_path.clear();
  address.port = 77;
  EXPECT_EQ(nbd_uri(address), "nbds://localhost:77/x?tls-psk-file=/keys");
  address.tls_psk_file.clear();
  address.tls_certificates.clear();
  EXPECT_EQ(nbd_uri(address), "nbds://localhost:77/x");
  address.vsock = true;
  EXPECT_EQ(nbd_uri(address), "nbds+vsock://1:77/x");
}

TEST(NbdUri, EncodesWhatHasAMeaningInUris) {
  EXPECT_EQ(nbd_uri({"/a b?c#d%e&f", 0, "\xc3\xa4"}),
            "nbd+unix:///%C3%A4?socket=/a%20b%3Fc%23d%25e%26f");
}

TEST(CaptiveScript, TheVariablesAreWhatTheShellSees) {
  Address address{"/tmp/it's $HOME", 0, "a'b\"c$(exit 1)"};
  std::string script = captive_script(
      address, "printf '%s|' \"$exportname\" \"$unixsocket\" \"$port\"; test \"$uri\" = \"$nbd\"");
  EXPECT_EQ(shell(script), "a'b\"c$(exit 1)|/tmp/it's $HOME||");
  EXPECT_EQ(shell(captive_script({"", 77, ""}, "echo $port$unixsocket; echo $uri")),
            "77\nnbd://localhost:77\n");
  EXPECT_EQ(shell(captive_script({"", 77, ""}, "echo \"${tls-off}\"")), "off\n");
  address.tls = address.tls_required = true;
  address.tls_certificates = "it's";
  EXPECT_EQ(shell(captive_script(address, "echo $tls $tls_certificates $tls_psk")), "2 it's\n");
}

}  // namespace
}  // namespace nbdkit
