// SPDX-License-Identifier: BSD-3-Clause
#include "support/tls_files.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "base/check.h"

namespace nbdkit {

TlsFiles::TlsFiles() : folder_("/tmp/nbdkit-tls-XXXXXX") {
  NBDKIT_CHECK(::mkdtemp(folder_.data()) != nullptr);
  const std::string command =
      fmt::format("{}/tests/support/make-certificates {}", NBDKIT_TEST_SOURCE_DIR, folder_);
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
}

TlsFiles::~TlsFiles() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

std::string TlsFiles::path(std::string_view name) const {
  return fmt::format("{}/{}", folder_, name);
}

ServerTls TlsFiles::server(std::string_view folder) const {
  ServerTls server;
  server.certificates = path(folder);
  return server;
}

ServerTls TlsFiles::server_with_keys() const {
  ServerTls server;
  server.psk_file = path("keys.psk");
  return server;
}

ClientTls TlsFiles::client(std::string_view folder) const {
  ClientTls client;
  client.certificates = path(folder);
  return client;
}

ClientTls TlsFiles::client_with_key(std::string_view username) const {
  ClientTls client;
  client.psk_file = path("keys.psk");
  client.username = username;
  return client;
}

TlsCredentials::Shared load(const ServerTls& server) {
  Result<TlsCredentials::Shared> loaded = TlsCredentials::for_server(server);
  EXPECT_TRUE(loaded.ok()) << loaded.error().message();
  return loaded.ok() ? loaded.value() : nullptr;
}

TlsCredentials::Shared load(const ClientTls& client) {
  Result<TlsCredentials::Shared> loaded = TlsCredentials::for_client(client);
  EXPECT_TRUE(loaded.ok()) << loaded.error().message();
  return loaded.ok() ? loaded.value() : nullptr;
}

}  // namespace nbdkit
