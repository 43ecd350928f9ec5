// SPDX-License-Identifier: BSD-3-Clause
// The functions that plugins call, called from here.

#define NBDKIT_API_VERSION 2
#include <fcntl.h>
#include <nbdkit-plugin.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdlib>
#include <fstream>
#include <regex>

#include "plugin_host/call_context.h"
#include "plugin_host/fixture_test.h"

// Linked into plugins together with code for filters, so not in the header.
struct nbdkit_export {
  char* name;
  char* description;
};
extern "C" {
nbdkit_exports* nbdkit_exports_new(void);
void nbdkit_exports_free(nbdkit_exports*);
size_t nbdkit_exports_count(const nbdkit_exports*);
nbdkit_export nbdkit_get_export(const nbdkit_exports*, size_t);
}

namespace nbdkit {
namespace {

struct Api : HostFixture {
  Api() { host = std::make_unique<PluginHost>(log, hooks); }
};

std::string take(char* text) {
  if (text == nullptr) return "(null)";
  std::string copy(text);
  std::free(text);
  return copy;
}

TEST_F(Api, ErrorsAreOneLineAndKeepErrno) {
  errno = ENOSPC;
  nbdkit_error("write of %d bytes: %m\n\n", 5);
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_EQ(log.errors(), ": write of 5 bytes: No space left on device\n");
  nbdkit_debug("seen because of --verbose %m");
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_TRUE(log.text().ends_with(": seen because of --verbose No space left on device\n"));
}

std::string with_list(const char* format, ...) {
  va_list list, copy;
  va_start(list, format);
  va_copy(copy, list);
  nbdkit_verror(format, list);
  va_end(list);
  va_start(list, format);
  nbdkit_vdebug(format, list);
  va_end(list);
  std::string text = nbdkit_vprintf_intern(format, copy);
  va_end(copy);
  return text;
}

TEST_F(Api, ArgumentsMayComeAsAList) {
  EXPECT_EQ(with_list("%d %s", 7, "words"), "7 words");
  EXPECT_EQ(log.errors(), ": 7 words\n");
  EXPECT_TRUE(log.text().ends_with(": 7 words\n"));
}

TEST_F(Api, NumbersHaveTheLimitsOfTheirTypes) {
  std::int8_t i8 = 0;
  EXPECT_EQ(nbdkit_parse_int8_t("n", "-128", &i8), 0);
  EXPECT_EQ(i8, -128);
  EXPECT_EQ(nbdkit_parse_int8_t("n", "128", &i8), -1);
  EXPECT_EQ(i8, -128);
  std::uint8_t u8 = 0;
  EXPECT_EQ(nbdkit_parse_uint8_t("n", "0xff", &u8), 0);
  EXPECT_EQ(u8, 255);
  EXPECT_EQ(nbdkit_parse_uint8_t("n", "-1", &u8), -1);
  std::int16_t i16 = 0;
  EXPECT_EQ(nbdkit_parse_int16_t("n", "0777", &i16), 0);
  EXPECT_EQ(i16, 511);
  EXPECT_EQ(nbdkit_parse_int16_t("n", "32768", &i16), -1);
  EXPECT_EQ(nbdkit_parse_uint16_t("n", "65536", nullptr), -1);
  EXPECT_EQ(nbdkit_parse_uint16_t("n", "65535", nullptr), 0);
  EXPECT_EQ(nbdkit_parse_int32_t("n", "2147483648", nullptr), -1);
  EXPECT_EQ(nbdkit_parse_uint32_t("n", "4294967295", nullptr), 0);
  EXPECT_EQ(nbdkit_parse_uint32_t("n", "4294967296", nullptr), -1);
  std::int64_t i64 = 0;
  EXPECT_EQ(nbdkit_parse_int64_t("n", "-9223372036854775808", &i64), 0);
  EXPECT_EQ(i64, INT64_MIN);
  std::uint64_t u64 = 0;
  EXPECT_EQ(nbdkit_parse_uint64_t("n", "18446744073709551615", &u64), 0);
  EXPECT_EQ(u64, UINT64_MAX);
  EXPECT_EQ(nbdkit_parse_uint64_t("n", "18446744073709551616", &u64), -1);
  int i = 0;
  EXPECT_EQ(nbdkit_parse_int("n", "12x", &i), -1);
  unsigned u = 0;
  EXPECT_EQ(nbdkit_parse_unsigned("threads", "", &u), -1);
  EXPECT_NE(log.errors().find(": threads: "), std::string::npos) << log.errors();
}

TEST_F(Api, SizesBooleansDelaysAndProbabilitiesAreParsed) {
  EXPECT_EQ(nbdkit_parse_size("1k"), 1024);
  EXPECT_EQ(nbdkit_parse_size("k"), -1);
  EXPECT_EQ(nbdkit_parse_bool("On"), 1);
  EXPECT_EQ(nbdkit_parse_bool("false"), 0);
  EXPECT_EQ(nbdkit_parse_bool("maybe"), -1);
  unsigned seconds = 0;
  unsigned nanoseconds = 0;
  EXPECT_EQ(nbdkit_parse_delay("delay", "1.25s", &seconds, &nanoseconds), 0);
  EXPECT_EQ(seconds, 1u);
  EXPECT_EQ(nanoseconds, 250'000'000u);
  EXPECT_EQ(nbdkit_parse_delay("delay", "soon", &seconds, &nanoseconds), -1);
  double probability = 0;
  for (const char* text : {"0.1", "10%", "1:10", "1/10"}) {
    EXPECT_EQ(nbdkit_parse_probability("p", text, &probability), 0) << text;
    EXPECT_DOUBLE_EQ(probability, 0.1) << text;
  }
  for (const char* text : {"", "x", "1.5", "-0.1", "200%", "1:0", "1:2:3", "10%%", "nan"}) {
    EXPECT_EQ(nbdkit_parse_probability("p", text, nullptr), -1) << text;
  }
}

TEST_F(Api, PathsAreMadeAbsolute) {
  EXPECT_EQ(take(nbdkit_absolute_path("/a/b")), "/a/b");
  EXPECT_EQ(take(nbdkit_absolute_path("b")), std::filesystem::current_path().string() + "/b");
  EXPECT_EQ(nbdkit_absolute_path(nullptr), nullptr);
  EXPECT_EQ(nbdkit_absolute_path(""), nullptr);
  std::filesystem::create_symlink("/", folder / "link");
  EXPECT_EQ(take(nbdkit_realpath(temporary("link").c_str())), "/");
  EXPECT_EQ(nbdkit_realpath("/nowhere/at/all"), nullptr);
  EXPECT_NE(log.errors().find("realpath: /nowhere/at/all: No such file"), std::string::npos);
}

TEST_F(Api, PasswordsComeFromTheCommandLineAFileOrADescriptor) {
  char* password = nullptr;
  ASSERT_EQ(nbdkit_read_password("literal", &password), 0);
  EXPECT_EQ(take(password), "literal");
  ASSERT_EQ(nbdkit_read_password("", &password), 0);
  EXPECT_EQ(take(password), "");
  std::ofstream(temporary("secret")) << "from a file\nand more\n";
  ASSERT_EQ(nbdkit_read_password(("+" + temporary("secret")).c_str(), &password), 0);
  EXPECT_EQ(take(password), "from a file");
  int fd = ::open(temporary("secret").c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(nbdkit_read_password(fmt::format("-{}", fd).c_str(), &password), 0);
  EXPECT_EQ(take(password), "from a file");
  EXPECT_EQ(::fcntl(fd, F_GETFD), -1);  // It was closed.
  EXPECT_EQ(nbdkit_read_password("+/nowhere", &password), -1);
  EXPECT_EQ(password, nullptr);
  EXPECT_EQ(nbdkit_read_password("-2", &password), -1);
  EXPECT_EQ(nbdkit_read_password("-x", &password), -1);
  host->started();
  EXPECT_EQ(nbdkit_read_password("-", &password), -1);  // Nobody could answer.
}

TEST_F(Api, StringsAreKept) {
  EXPECT_STREQ(nbdkit_strdup_intern("whole"), "whole");
  EXPECT_STREQ(nbdkit_strndup_intern("whole", 2), "wh");
  EXPECT_STREQ(nbdkit_strndup_intern("wh", 5), "wh");
  EXPECT_STREQ(nbdkit_printf_intern("%d-%s", 1, "a"), "1-a");
  EXPECT_EQ(nbdkit_strdup_intern(nullptr), nullptr);
}

TEST_F(Api, WithoutAConnectionThereIsNothingToTellAboutIt) {
  CallContext call(*host, nullptr, Messages::log, false);
  sockaddr_un address{};
  socklen_t length = sizeof address;
  EXPECT_EQ(nbdkit_export_name(), nullptr);
  EXPECT_EQ(nbdkit_is_tls(), -1);
  EXPECT_EQ(nbdkit_peer_name(reinterpret_cast<sockaddr*>(&address), &length), -1);
  EXPECT_EQ(nbdkit_peer_pid(), -1);
  EXPECT_EQ(nbdkit_peer_security_context(), nullptr);
  EXPECT_EQ(nbdkit_peer_tls_dn(), nullptr);
  EXPECT_EQ(nbdkit_peer_tls_issuer_dn(), nullptr);
  nbdkit_disconnect(1);
  nbdkit_shutdown();  // No hooks: nothing happens.
  EXPECT_STREQ(nbdkit_name(), "nbdkit");
}

TEST_F(Api, TheClientIsTheOneOfTheCall) {
  auto client = new_client("name");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  client->context().peer.address.assign(reinterpret_cast<char*>(&address), sizeof address);
  client->context().peer.pid = 1;
  client->context().peer.gid = 3;
  Session session(*host, client->context(), "plugin");
  CallContext call(*host, &session, Messages::log, false);
  EXPECT_STREQ(nbdkit_export_name(), "name");
  EXPECT_EQ(nbdkit_is_tls(), 0);
  sockaddr_un found{};
  socklen_t length = sizeof found.sun_family;
  EXPECT_EQ(nbdkit_peer_name(reinterpret_cast<sockaddr*>(&found), &length), 0);
  EXPECT_EQ(found.sun_family, AF_UNIX);
  EXPECT_EQ(length, sizeof address);
  EXPECT_EQ(nbdkit_peer_pid(), 1);
  EXPECT_EQ(nbdkit_peer_uid(), -1);
  EXPECT_EQ(nbdkit_peer_gid(), 3);
  EXPECT_EQ(take(nbdkit_peer_tls_dn()), "");
  client->context().peer.tls_name = "CN=a client";
  client->context().peer.tls_issuer = "CN=an authority";
  client->context().tls = true;
  EXPECT_EQ(nbdkit_is_tls(), 1);
  EXPECT_EQ(take(nbdkit_peer_tls_dn()), "CN=a client");
  EXPECT_EQ(take(nbdkit_peer_tls_issuer_dn()), "CN=an authority");
  nbdkit_error("oh");
  EXPECT_TRUE(log.errors().ends_with("plugin.1: oh\n"));
}

TEST_F(Api, ExtentsCanBeCollectedApart) {
  nbdkit_extents* extents = nbdkit_extents_new(512, 4096);
  ASSERT_NE(extents, nullptr);
  EXPECT_EQ(nbdkit_add_extent(extents, 0, 1024, NBDKIT_EXTENT_HOLE), 0);
  EXPECT_EQ(nbdkit_add_extent(extents, 1024, 0, 0), 0);
  EXPECT_EQ(nbdkit_add_extent(extents, 1024, 8192, 4 | NBDKIT_EXTENT_ZERO), 0);
  EXPECT_EQ(nbdkit_extents_count(extents), 2u);
  nbdkit_extent second = nbdkit_get_extent(extents, 1);
  EXPECT_EQ(second.offset, 1024u);
  EXPECT_EQ(second.length, 3072u);
  EXPECT_EQ(second.type, 2u);
  nbdkit_extents_free(extents);
  nbdkit_extents_free(nullptr);
  EXPECT_EQ(nbdkit_extents_new(UINT64_MAX, UINT64_MAX), nullptr);
}

TEST_F(Api, ExportsHaveTheLimitsOfTheProtocol) {
  nbdkit_exports* exports = nbdkit_exports_new();
  EXPECT_EQ(nbdkit_add_export(exports, "one", nullptr), 0);
  EXPECT_EQ(nbdkit_add_export(exports, "two", "described"), 0);
  EXPECT_EQ(nbdkit_add_export(exports, std::string(4097, 'x').c_str(), nullptr), -1);
  EXPECT_EQ(nbdkit_exports_count(exports), 2u);
  EXPECT_STREQ(nbdkit_get_export(exports, 0).name, "one");
  EXPECT_EQ(nbdkit_get_export(exports, 0).description, nullptr);
  EXPECT_STREQ(nbdkit_get_export(exports, 1).description, "described");
  for (int i = 2; i < 10'000; ++i) ASSERT_EQ(nbdkit_add_export(exports, "", nullptr), 0);
  EXPECT_EQ(nbdkit_add_export(exports, "", nullptr), -1);
  EXPECT_EQ(nbdkit_use_default_export(exports), -1);
  nbdkit_exports_free(exports);
}

TEST_F(Api, DataIsDumpedForDebugging) {
  const unsigned char before[18] = {'A', 'B', 0, 0xff};
  const unsigned char after[18] = {'A', 'C', 0, 0xff};
  nbdkit_debug_hexdump(before, sizeof before, "data ", 0x100);
  EXPECT_EQ(
      log.text(),
      ": data 00000100: 41 42 00 ff 00 00 00 00 00 00 00 00 00 00 00 00 |AB..............|\n"
      ": data 00000110: 00 00                                           |..              |\n");
  nbdkit_debug_hexdiff(before, after, sizeof before, nullptr, 0);
  EXPECT_TRUE(log.text().ends_with(
      ": -00000000: 41 42 00 ff 00 00 00 00 00 00 00 00 00 00 00 00 |AB..............|\n"
      ": +00000000:    43                                           | C              |\n"))
      << log.text();
}

TEST_F(Api, TheTimeIsAText) {
  EXPECT_TRUE(std::regex_match(nbdkit_timestamp(),
                               std::regex("\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d\\.\\d{6}")))
      << nbdkit_timestamp();
}

TEST_F(Api, ASleepTakesItsTime) {
  auto before = std::chrono::steady_clock::now();
  EXPECT_EQ(nbdkit_nanosleep(0, 2'000'000), 0);
  EXPECT_GE(std::chrono::steady_clock::now() - before, Milliseconds(2));
}

}  // namespace
}  // namespace nbdkit
