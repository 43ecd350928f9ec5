// SPDX-License-Identifier: BSD-3-Clause
#include "tls/credentials.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "support/tls_files.h"
#include "tls/folders.h"

namespace nbdkit {
namespace {

struct CredentialsTest : testing::Test {
  // What for_server says about them.
  std::string refusal(const ServerTls& server) {
    Result<TlsCredentials::Shared> loaded = TlsCredentials::for_server(server);
    return loaded.ok() ? "" : loaded.error().message();
  }
  std::string refusal(const ClientTls& client) {
    Result<TlsCredentials::Shared> loaded = TlsCredentials::for_client(client);
    return loaded.ok() ? "" : loaded.error().message();
  }
  void expect_part(const std::string& text, std::string_view part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  }
  TlsFiles files;
};

TEST_F(CredentialsTest, AFolderWithoutCertificatesIsAnErrorOfItsOwn) {
  ServerTls server;
  server.certificates = "/no/such/folder";
  Result<TlsCredentials::Shared> loaded = TlsCredentials::for_server(server);
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.error().code, std::errc::no_such_file_or_directory);
}

TEST_F(CredentialsTest, EveryFileOfAServerIsNeeded) {
  for (std::string name : {"ca-cert.pem", "server-cert.pem", "server-key.pem"}) {
    std::filesystem::rename(files.path("pki/" + name), files.path("away"));
    expect_part(refusal(files.server()), name + ": No such file");
    std::filesystem::rename(files.path("away"), files.path("pki/" + name));
  }
  EXPECT_EQ(refusal(files.server()), "");
}

TEST_F(CredentialsTest, WhatIsWrongWithAFileIsSaidWithItsName) {
  std::filesystem::copy(files.path("other/server-key.pem"), files.path("pki/server-key.pem"),
                        std::filesystem::copy_options::overwrite_existing);
  expect_part(refusal(files.server()), "pki/server-key.pem): The certificate and the given key");
  std::ofstream(files.path("revoked/ca-crl.pem")) << "nothing of use";
  expect_part(refusal(files.server("revoked")), "revoked/ca-crl.pem: ");
  std::ofstream(files.path("other/ca-cert.pem")) << "nothing of use";
  expect_part(refusal(files.server("other")), "other/ca-cert.pem: ");
  expect_part(refusal(files.client("other")), "other/ca-cert.pem: ");
}

TEST_F(CredentialsTest, PrioritiesAreCheckedAtOnce) {
  ServerTls server = files.server();
  server.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.3";
  EXPECT_EQ(refusal(server), "");
  server.priority = "NORMAL:nonsense";
  expect_part(refusal(server), "TLS priorities 'NORMAL:nonsense': wrong from 'nonsense' on");
}

TEST_F(CredentialsTest, AClientNeedsAKeyOfItsOwn) {
  EXPECT_EQ(refusal(files.client_with_key("alice")), "");
  expect_part(refusal(files.client_with_key("mallory")), "keys.psk: has no key of 'mallory'");
  ClientTls client = files.client_with_key("alice");
  client.psk_file = files.path("nothing");
  expect_part(refusal(client), "nothing: No such file");
  std::ofstream(files.path("keys.psk")) << "alice:no digits\n";
  expect_part(refusal(files.client_with_key("alice")), "keys.psk: the key of 'alice': ");
}

TEST_F(CredentialsTest, AServerNeedsItsFileOfKeys) {
  EXPECT_EQ(refusal(files.server_with_keys()), "");
  ServerTls server;
  server.psk_file = files.path("nothing");
  expect_part(refusal(server), "nothing: No such file");
}

TEST(CertificateFolders, AreTheSystemsForRootAndTheUsersOwnForOthers) {
  if (::geteuid() == 0) {
    EXPECT_EQ(certificate_folders("nbdkit"), (std::vector<std::string>{"/etc/pki/nbdkit"}));
    return;
  }
  ::setenv("HOME", "/a home", 1);
  EXPECT_EQ(certificate_folders("libnbd"),
            (std::vector<std::string>{"/a home/.pki/libnbd", "/a home/.config/pki/libnbd"}));
  ::unsetenv("HOME");
  EXPECT_EQ(certificate_folders("libnbd"), std::vector<std::string>());
}

}  // namespace
}  // namespace nbdkit
