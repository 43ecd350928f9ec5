// SPDX-License-Identifier: BSD-3-Clause
#include "attach/server_command.h"

#include <gtest/gtest.h>

namespace nbdkit {
namespace {

using Words = std::vector<std::string>;

AttachOptions options_for(Words plugin) {
  AttachOptions options;
  options.server = "/opt/bin/nbdkit";
  options.plugin = std::move(plugin);
  return options;
}

TEST(ServerCommandTest, OwnOptionsComeFirstAndTheRestVerbatim) {
  AttachOptions options = options_for({"file", "disk.img", "-r", "--filter=log"});
  options.read_only = true;
  options.user = "nobody";
  options.filters = {"delay"};
  options.server_options = {"-t", "4"};
  EXPECT_EQ(server_arguments(options, {.handoff = 3, .door = 5, .kept_memory = 4, .ledger = 6}),
            (Words{"/opt/bin/nbdkit", "-f", "--handoff-fd=3", "--handoff-fd=5",
                   "--kept-memory-fd=4", "--request-ledger-fd=6", "--readonly", "--user=nobody",
                   "--filter=delay", "-t", "4", "file", "disk.img", "-r", "--filter=log"}));
}

TEST(ServerCommandTest, FiltersAreFoundWhereverTheyStand) {
  AttachOptions options = options_for({"memory", "1M", "--filter", "log", "--", "--filter=no"});
  options.filters = {"delay"};
  options.server_options = {"--filter=/lib/nbdkit-offset-filter.so"};
  EXPECT_EQ(filter_names(options), (Words{"delay", "offset", "log"}));
}

TEST(ServerCommandTest, APluginByItsPathHasAShortName) {
  EXPECT_EQ(plugin_name(options_for({"memory", "1M"})), "memory");
  EXPECT_EQ(plugin_name(options_for({"/x/nbdkit-file-plugin.so"})), "file");
  EXPECT_EQ(plugin_name(options_for({"./my.so"})), "my");
}

TEST(ServerCommandTest, DescriptorsInParametersAreKept) {
  EXPECT_EQ(named_descriptors(options_for({"file", "dirfd=7", "fd=5", "fd=7", "fd=0", "fd=x"})),
            (std::vector<int>{5, 7}));
  EXPECT_EQ(named_descriptors(options_for({"memory", "size=5"})), std::vector<int>());
}

}  // namespace
}  // namespace nbdkit
