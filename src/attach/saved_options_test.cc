// SPDX-License-Identifier: BSD-3-Clause
#include "attach/saved_options.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace nbdkit {
namespace {

using Words = std::vector<std::string>;

AttachOptions every_option() {
  AttachOptions options;
  options.index = 7;
  options.read_only = true;
  options.connections = 3;
  options.export_name = "a \xff name%41";
  options.name = "root-of-vm1";
  options.metrics = ":9109";
  options.scan = false;
  options.queue = {{"scheduler", "kyber"}, {"read_ahead_kb", "4096"}};
  options.request_timeout = Seconds(30);
  options.recheck = Milliseconds(250);
  options.dead_timeout = Seconds(90);
  options.server = "/opt/bin/nbdkit";
  options.folder = "/srv/\xc3\xa4";
  options.environment = {"PATH=/bin", "API_TOKEN=hunter2", "EMPTY="};
  options.file_mask = 027;
  options.surroundings.oom_score = -17;
  options.user = "nobody";
  options.group = "disk";
  options.filters = {"log", "delay"};
  options.server_options = {"--threads=4"};
  options.plugin = {"curl", "url=http://x/", "password=hunter2", "cookie=+/etc/cookie"};
  return options;
}

TEST(SavedOptionsTest, EverythingComesBack) {
  AttachOptions options = every_option();
  Result<SavedOptions> read = parse_saved_options(save_options(options));
  ASSERT_TRUE(read.ok()) << read.error().message();
  const AttachOptions& back = read.value().options;
  EXPECT_EQ(back.index, options.index);
  EXPECT_EQ(back.read_only, options.read_only);
  EXPECT_EQ(back.connections, options.connections);
  EXPECT_EQ(back.export_name, options.export_name);
  EXPECT_EQ(back.name, options.name);
  EXPECT_EQ(back.request_timeout, options.request_timeout);
  EXPECT_EQ(back.recheck, options.recheck);
  EXPECT_EQ(back.dead_timeout, options.dead_timeout);
  EXPECT_EQ(back.server, options.server);
  EXPECT_EQ(back.folder, options.folder);
  EXPECT_EQ(back.environment, options.environment);
  EXPECT_EQ(back.file_mask, options.file_mask);
  EXPECT_EQ(back.surroundings.oom_score, -17);
  EXPECT_EQ(back.user, options.user);
  EXPECT_EQ(back.group, options.group);
  EXPECT_EQ(back.metrics, options.metrics);
  EXPECT_EQ(back.queue, options.queue);
  EXPECT_FALSE(back.scan);
  EXPECT_EQ(back.filters, options.filters);
  EXPECT_EQ(back.server_options, options.server_options);
  EXPECT_EQ(back.plugin, options.plugin);
  EXPECT_TRUE(read.value().missing_parameters.empty());
}

TEST(SavedOptionsTest, WhatIsDifferentHasAName) {
  const AttachOptions kept = every_option();
  AttachOptions given = kept;
  given.index.reset();
  given.environment.clear();
  given.verbose = true;
  EXPECT_EQ(first_difference(kept, given), "");
  given.dead_timeout = Seconds(1);
  EXPECT_EQ(first_difference(kept, given), "timeouts");
  given.metrics = ":9110";
  EXPECT_EQ(first_difference(kept, given), "address of the metrics");
  given.folder = "/";
  EXPECT_EQ(first_difference(kept, given), "working directory");
  given.plugin.back() = "cookie=+/etc/other";
  EXPECT_EQ(first_difference(kept, given), "plugin or parameters");
}

TEST(SavedOptionsTest, SecretsAreNamedInsteadOfWritten) {
  std::string text = save_options_without_secrets(every_option());
  EXPECT_EQ(text.find("hunter2"), std::string::npos) << text;
  Result<SavedOptions> read = parse_saved_options(text);
  ASSERT_TRUE(read.ok()) << read.error().message();
  EXPECT_EQ(read.value().missing_parameters, (Words{"password"}));
  EXPECT_EQ(read.value().missing_variables, (Words{"API_TOKEN"}));
  EXPECT_EQ(read.value().options.plugin, (Words{"curl", "url=http://x/", "cookie=+/etc/cookie"}));
}

TEST(SavedOptionsTest, AnythingElseIsRefused) {
  std::string text = save_options(every_option());
  std::string no_plugin = text;
  no_plugin.replace(no_plugin.find("\"plugin\""), 8, "\"plugim\"");
  for (const std::string& bad : {std::string(), std::string("{}"), std::string("[1]"),
                                 text.substr(0, text.size() / 2), no_plugin}) {
    EXPECT_FALSE(parse_saved_options(bad).ok()) << bad;
  }
}

TEST(SavedOptionsTest, WhatIsSealedStaysAsItIs) {
  Result<UniqueFd> sealed = seal("text");
  ASSERT_TRUE(sealed.ok());
  int fd = sealed.value().get();
  EXPECT_EQ(read_sealed(fd).value(), "text");
  EXPECT_LT(::pwrite(fd, "T", 1, 0), 0);
  EXPECT_LT(::ftruncate(fd, 0), 0);
  UniqueFd open(::memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_FALSE(read_sealed(open.get()).ok());
}

}  // namespace
}  // namespace nbdkit
