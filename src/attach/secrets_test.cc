// SPDX-License-Identifier: BSD-3-Clause
#include "attach/secrets.h"

#include <gtest/gtest.h>

namespace nbdkit {
namespace {

TEST(SecretsTest, ParametersAndVariablesThatMayBeSecretsAreFound) {
  AttachOptions options;
  options.plugin = {"curl", "url=https://u:hunter22@host/disk", "password=open sesame", "cookie=-",
                    "size=1G"};
  options.server_options = {"--verbose"};
  options.environment = {"HOME=/root", "AWS_SECRET_ACCESS_KEY=abcdefgh", "MY_TOKEN=true"};
  EXPECT_EQ(secrets_of(options), (std::vector<std::string>{"open sesame", "hunter22", "abcdefgh"}));
}

TEST(SecretsTest, KnownSecretsAreGoneWhereverTheyStand) {
  EXPECT_EQ(mask_secrets("login as root:hunter22 failed", {"hunter22"}),
            "login as root:******** failed");
  EXPECT_EQ(mask_secrets("abcabcd", {"abcd", "abc"}), "****************");
}

TEST(SecretsTest, WhatFollowsTheKeyOfASecretIsMasked) {
  EXPECT_EQ(mask_secrets("nbdkit ssh password=xyzzy1 host=a", {}),
            "nbdkit ssh password=******** host=a");
  EXPECT_EQ(mask_secrets(R"(["ssh","password=open se\"same","user=a"])", {}),
            R"(["ssh","password=********","user=a"])");
  EXPECT_EQ(mask_secrets("API_TOKEN=12345678", {}), "API_TOKEN=********");
}

TEST(SecretsTest, WhereASecretIsMayBeTold) {
  EXPECT_EQ(mask_secrets("password=+/etc/pw password=- size=1", {}),
            "password=+/etc/pw password=- size=1");
}

TEST(SecretsTest, PasswordsInUrlsAreMasked) {
  EXPECT_EQ(mask_secrets("cannot open \"nbd://me:pass@host:10809/x\": refused", {}),
            "cannot open \"nbd://me:********@host:10809/x\": refused");
  EXPECT_EQ(mask_secrets("uri=nbd://host/x see https://example.org/a", {}),
            "uri=nbd://host/x see https://example.org/a");
}

TEST(SecretsTest, NothingMovesTheCursor) {
  EXPECT_EQ(mask_secrets("a\033[2Jb\n\tc", {}), "a?[2Jb\n\tc");
}

}  // namespace
}  // namespace nbdkit
