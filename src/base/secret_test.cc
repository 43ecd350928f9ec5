// SPDX-License-Identifier: BSD-3-Clause
#include "base/secret.h"

#include <gtest/gtest.h>

namespace nbdkit {
namespace {

TEST(Secret, IsKnownByItsKey) {
  for (const char* key : {"password", "proxy-password", "passphrase", "session-token", "cookie",
                          "secret-key", "tls-psk", "API_TOKEN", "PGPASSWORD"}) {
    EXPECT_TRUE(is_secret_key(key)) << key;
    EXPECT_EQ(shown_parameter(key, "hunter2"), std::string(key) + "=***");
  }
  for (const char* key : {"size", "file", "user", "url", "HOME"}) {
    EXPECT_FALSE(is_secret_key(key)) << key;
    EXPECT_EQ(shown_parameter(key, "1M"), std::string(key) + "=1M");
  }
}

TEST(Secret, WhereItIsMayBeSeen) {
  for (const char* value : {"-", "-3", "+/etc/secret", ""}) {
    EXPECT_EQ(shown_parameter("password", value), std::string("password=") + value);
  }
  EXPECT_EQ(shown_parameter("password", "-not-a-number"), "password=***");
}

TEST(Secret, OfAUrlOnlyThePasswordIsHidden) {
  EXPECT_EQ(shown_parameter("url", "https://me:hunter2@example.com/disk?a=b"),
            "url=https://me:***@example.com/disk?a=b");
  EXPECT_EQ(shown_parameter("url", "https://me:p@ss@example.com/"),
            "url=https://me:***@example.com/");
  for (const char* url :
       {"https://me@example.com:80/", "https://example.com:80/a@b", "nbd://a/b"}) {
    EXPECT_EQ(shown_parameter("url", url), std::string("url=") + url);
  }
}

TEST(Secret, IsFoundInAParameter) {
  EXPECT_EQ(secret_in("password=hunter2"), "hunter2");
  EXPECT_EQ(secret_in("proxy-Password=x"), "x");
  EXPECT_EQ(secret_in("url=https://me:hunter2@host/path"), "hunter2");
  EXPECT_EQ(secret_in("https://me:a@b@host"), "a@b");
}

TEST(Secret, WhatIsNoneStaysReadable) {
  for (std::string_view plain : {"size=1G", "password=-", "password=+/etc/secret", "disk.img",
                                 "url=https://host:8080/a@b", "url=https://me@host", "-r"}) {
    EXPECT_EQ(secret_in(plain), "") << plain;
  }
}

}  // namespace
}  // namespace nbdkit
