// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/stored_connection.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

namespace nbdkit {
namespace {

constexpr int kAllSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

MovedConnection moved() {
  MovedConnection moved;
  moved.agreement.structured_replies = true;
  moved.agreement.extended_headers = true;
  moved.agreement.contexts.add(kBaseAllocation);
  moved.agreement.block_size = {512, 4096, 65536};
  moved.unread = {std::byte{0x25}, std::byte{0x60}, std::byte{0x95}};
  moved.export_name = "disk";
  moved.kernel = true;
  moved.info.size = 1 << 20;
  moved.info.transmission_flags = 0x8d;
  moved.info.identity = "file:1:2";
  return moved;
}

UniqueFd memory_file(const std::string& text, int seals) {
  UniqueFd file(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(::write(file.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  EXPECT_EQ(::fcntl(file.get(), F_ADD_SEALS, seals), 0);
  return file;
}

std::string contents(int file) {
  std::string text(4096, '\0');
  ssize_t length = ::pread(file, text.data(), text.size(), 0);
  text.resize(length > 0 ? static_cast<std::size_t>(length) : 0);
  return text;
}

std::string refusal(const std::string& text) {
  Result<StoredConnection> read = read_stored(memory_file(text, kAllSeals).get());
  return read.ok() ? "none" : read.error().message();
}

TEST(StoredConnectionTest, WhatIsStoredComesBack) {
  Result<UniqueFd> file = write_stored(to_stored(moved(), 1000));
  ASSERT_TRUE(file.ok());
  Result<StoredConnection> read = read_stored(file.value().get());
  ASSERT_TRUE(read.ok()) << read.error().message();
  const StoredConnection& connection = read.value();
  EXPECT_EQ(connection.owner, uid_t{1000});
  EXPECT_EQ(connection.identity, "file:1:2");
  EXPECT_EQ(connection.serve.mode, HandoffServe::Mode::transmission);
  EXPECT_EQ(connection.serve.export_name, "disk");
  EXPECT_TRUE(connection.serve.kernel);
  EXPECT_EQ(connection.serve.size, std::uint64_t{1} << 20);
  EXPECT_EQ(connection.serve.flags, std::uint16_t{0x8d});
  ASSERT_TRUE(connection.serve.state);
  EXPECT_TRUE(connection.serve.state->agreement.structured_replies);
  EXPECT_TRUE(connection.serve.state->agreement.extended_headers);
  EXPECT_TRUE(connection.serve.state->agreement.contexts.has(kBaseAllocation));
  EXPECT_EQ(connection.serve.state->agreement.block_size.minimum, 512u);
  EXPECT_EQ(connection.serve.state->agreement.block_size.maximum, 65536u);
  EXPECT_EQ(connection.serve.state->unread, moved().unread);
}

TEST(StoredConnectionTest, AConnectionThatNobodyGaveHasNoOwner) {
  Result<UniqueFd> file = write_stored(to_stored(moved(), std::nullopt));
  ASSERT_TRUE(file.ok());
  Result<StoredConnection> read = read_stored(file.value().get());
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read.value().owner, std::nullopt);
}

TEST(StoredConnectionTest, TheFileCannotBeChanged) {
  Result<UniqueFd> file = write_stored(to_stored(moved(), 0));
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(::pwrite(file.value().get(), "x", 1, 0), -1);
  EXPECT_EQ(::ftruncate(file.value().get(), 0), -1);
}

TEST(StoredConnectionTest, AFileThatCanBeChangedIsRefused) {
  Result<UniqueFd> file = write_stored(to_stored(moved(), 0));
  ASSERT_TRUE(file.ok());
  std::string text = contents(file.value().get());
  EXPECT_TRUE(read_stored(memory_file(text, kAllSeals).get()).ok());
  EXPECT_FALSE(read_stored(memory_file(text, kAllSeals & ~F_SEAL_WRITE).get()).ok());
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_FALSE(read_stored(null.get()).ok());
}

TEST(StoredConnectionTest, WhatIsWrongIsNamed) {
  EXPECT_NE(refusal("{}").find("version"), std::string::npos);
  EXPECT_NE(refusal(R"({"version":2})").find("version"), std::string::npos);
  EXPECT_NE(refusal(R"({"version":1,"more":1})").find("more"), std::string::npos);
  EXPECT_NE(refusal(R"({"version":1,"user":-1})").find("user"), std::string::npos);
  EXPECT_NE(refusal(R"({"version":1,"user":null})").find("identity"), std::string::npos);
  EXPECT_NE(refusal(R"({"version":1,"identity":""})").find("serve"), std::string::npos);
  EXPECT_NE(refusal(R"({"version":1,"identity":"","serve":{}})").find("mode"), std::string::npos);
  EXPECT_NE(refusal(R"({"version":1,"identity":"","serve":{"mode":"transmission"}})").find("state"),
            std::string::npos);
  EXPECT_NE(refusal(std::string(70'000, ' ')).find("more than"), std::string::npos);
  EXPECT_NE(refusal("no JSON"), "none");
}

TEST(StoredConnectionTest, TheNameSaysThatItIsOurs) {
  EXPECT_TRUE(is_stored_name(stored_name(17)));
  EXPECT_NE(stored_name(17), stored_name(18));
  EXPECT_FALSE(is_stored_name("nbdkit.socket"));
  EXPECT_FALSE(is_stored_name(""));
}

}  // namespace
}  // namespace nbdkit
