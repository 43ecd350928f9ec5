// SPDX-License-Identifier: BSD-3-Clause
#include "main/attach_options.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

using Words = std::vector<std::string>;
using Action = AttachCommand::Action;

Result<AttachCommand> parse(const std::vector<const char*>& arguments) {
  std::vector<char*> argv{const_cast<char*>("nbdkit-attach")};
  for (const char* argument : arguments) argv.push_back(const_cast<char*>(argument));
  argv.push_back(nullptr);
  return parse_attach_command(static_cast<int>(argv.size()) - 1, argv.data());
}

std::string refusal(const std::vector<const char*>& arguments) {
  Result<AttachCommand> command = parse(arguments);
  if (command.ok()) return "accepted";
  EXPECT_EQ(exit_code_of(command.error()), ExitCode::usage);
  return command.error().message();
}

TEST(AttachOptions, AnUpgradeTakesWhatAServerIsStartedFrom) {
  Result<AttachCommand> alone = parse({"--upgrade", "/dev/nbd7"});
  ASSERT_TRUE(alone.ok()) << alone.error().message();
  EXPECT_EQ(alone.value().action, AttachCommand::Action::upgrade);
  EXPECT_EQ(alone.value().index, 7u);
  EXPECT_FALSE(alone.value().upgrade.start);
  Result<AttachCommand> other = parse({"--upgrade", "--changes-data", "/dev/nbd7",
                                       "--server=/bin/s", "--filter=log", "memory", "1M"});
  ASSERT_TRUE(other.ok()) << other.error().message();
  EXPECT_TRUE(other.value().upgrade.changes_data);
  EXPECT_EQ(other.value().upgrade.server, "/bin/s");
  ASSERT_TRUE(other.value().upgrade.start);
  EXPECT_EQ(other.value().upgrade.start->filters, std::vector<std::string>{"log"});
  EXPECT_EQ(other.value().upgrade.start->plugin, (std::vector<std::string>{"memory", "1M"}));
}

TEST(AttachOptionsTest, FromThePluginOnNothingIsTouched) {
  AttachCommand command = parse({"/dev/nbd3", "-r", "--filter=log", "memory", "256M", "-r",
                                 "--force", "--", "-f", "a=b"})
                              .value();
  EXPECT_EQ(command.action, Action::attach);
  EXPECT_EQ(command.attach.index, 3u);
  EXPECT_TRUE(command.attach.read_only);
  EXPECT_FALSE(command.attach.foreground);
  EXPECT_EQ(command.attach.filters, Words{"log"});
  EXPECT_EQ(command.attach.plugin, (Words{"memory", "256M", "-r", "--force", "--", "-f", "a=b"}));
}

TEST(AttachOptionsTest, ADashPicksAFreeDevice) {
  AttachCommand command = parse({"-", "file", "disk.img"}).value();
  EXPECT_FALSE(command.attach.index);
  EXPECT_EQ(command.attach.plugin, (Words{"file", "disk.img"}));
}

TEST(AttachOptionsTest, OptionsMayStandBeforeTheDevice) {
  AttachCommand command = parse({"--connections", "4", "-u", "nobody", "-", "--server-option", "-t",
                                 "--server-option=4", "--filter", "a", "--filter", "b", "null"})
                              .value();
  EXPECT_EQ(command.attach.connections, 4u);
  EXPECT_EQ(command.attach.user, "nobody");
  EXPECT_EQ(command.attach.server_options, (Words{"-t", "4"}));
  EXPECT_EQ(command.attach.filters, (Words{"a", "b"}));
  EXPECT_EQ(command.attach.plugin, Words{"null"});
}

TEST(AttachOptionsTest, TimesHaveUnits) {
  AttachCommand command =
      parse({"-", "--recheck=250ms", "--dead-timeout=1.5", "-e", "disk", "null"}).value();
  EXPECT_EQ(command.attach.recheck, Milliseconds(250));
  EXPECT_EQ(command.attach.dead_timeout, Seconds(2));
  EXPECT_EQ(command.attach.request_timeout, Seconds(0));
  EXPECT_EQ(command.attach.export_name, "disk");
  command = parse({"-", "--timeout=100ms", "null"}).value();
  EXPECT_EQ(command.attach.request_timeout, Seconds(1));
  EXPECT_EQ(command.attach.dead_timeout, Seconds(60));
  EXPECT_EQ(command.attach.recheck, std::nullopt);
}

TEST(AttachOptionsTest, TheServerIsBesideTheProgramOrAPath) {
  std::string beside = parse({"-", "null"}).value().attach.server;
  EXPECT_TRUE(beside.starts_with('/') && beside.ends_with("/nbdkit")) << beside;
  EXPECT_EQ(parse({"-", "--server=/opt/x", "null"}).value().attach.server, "/opt/x");
  EXPECT_NE(refusal({"-", "--server=nbdkit", "null"}).find("must be a path"), std::string::npos);
}

TEST(AttachOptionsTest, OtherActions) {
  AttachCommand detach = parse({"--detach", "/dev/nbd2", "--force"}).value();
  EXPECT_EQ(detach.action, Action::detach);
  EXPECT_EQ(detach.index, 2u);
  EXPECT_TRUE(detach.detach.force);
  AttachCommand status = parse({"--status", "--json", "nbd5"}).value();
  EXPECT_EQ(status.action, Action::status);
  EXPECT_EQ(status.index, 5u);
  EXPECT_TRUE(status.json);
  EXPECT_EQ(parse({"--swap=check", "--json"}).value().action, Action::check_swap);
  EXPECT_EQ(parse({"-", "--swap", "file", "a"}).value().attach.swap, SwapMode::on);
  EXPECT_EQ(parse({"--swap=force", "-", "file", "a"}).value().attach.swap, SwapMode::force);
  EXPECT_EQ(parse({"-", "--name=vm1:root", "null"}).value().attach.name, "vm1:root");
  EXPECT_EQ(parse({"--list"}).value().action, Action::list);
  EXPECT_EQ(parse({"--version"}).value().text, "nbdkit-attach " NBDKIT_VERSION "\n");
  EXPECT_NE(parse({"--help"}).value().text.find("--dead-timeout"), std::string::npos);
}

TEST(AttachOptionsTest, ToReattachNoPluginIsNeeded) {
  AttachCommand command = parse({"--reattach", "/dev/nbd2"}).value();
  EXPECT_EQ(command.action, Action::attach);
  EXPECT_TRUE(command.attach.reattach);
  EXPECT_EQ(command.attach.index, 2u);
  EXPECT_TRUE(command.attach.plugin.empty());
  command = parse({"-f", "--reattach", "/dev/nbd2", "--filter=log", "file", "a"}).value();
  EXPECT_TRUE(command.attach.reattach);
  EXPECT_EQ(command.attach.plugin, (Words{"file", "a"}));
}

TEST(AttachOptionsTest, AnAddressIsForTheKernelUnlessItNeedsAServer) {
  AttachOptions direct = parse({"-", "nbd://host/a%20b", "keeps-unflushed=true"}).value().attach;
  EXPECT_EQ(direct.plugin, (Words{"nbd://host/a%20b", "keeps-unflushed=true"}));
  EXPECT_EQ(direct.export_name, "a b");
  const std::vector<std::vector<const char*>> kThroughThePlugin{
      {"-", "--filter=log", "nbd://host/x", "retry=3"},
      {"-", "-u", "nobody", "nbd://host/x", "retry=3"},
      {"-", "--server-option=-v", "nbd://host/x", "retry=3"},
      {"--upgrade", "/dev/nbd0", "nbd://host/x", "retry=3"},
  };
  for (const std::vector<const char*>& arguments : kThroughThePlugin) {
    AttachCommand command = parse(arguments).value();
    EXPECT_EQ(command.attach.plugin, (Words{"nbd", "uri=nbd://host/x", "retry=3"}));
  }
  EXPECT_EQ(parse({"-", "nbds://host/x"}).value().attach.plugin,
            (Words{"nbd", "uri=nbds://host/x"}));
}

TEST(AttachOptionsTest, WhatMakesNoSenseIsRefused) {
  const std::vector<std::pair<std::vector<const char*>, const char*>> kCases{
      {{}, "which device"},
      {{"/dev/nbd0"}, "which plugin"},
      {{"/dev/sda", "memory", "1M"}, "/dev/sda"},
      {{"/dev/nbd0", "--bogus", "memory", "1M"}, "unknown option --bogus"},
      {{"/dev/nbd0", "-t", "4", "memory"}, "unknown option -t"},
      {{"--detach"}, "which device"},
      {{"--detach", "-"}, "-"},
      {{"--detach", "/dev/nbd0", "memory"}, "too many arguments: memory"},
      {{"--reattach"}, "which device"},
      {{"--reattach", "-", "memory"}, "--reattach needs the device's name"},
      {{"--reattach", "--detach", "/dev/nbd0"}, "exclude"},
      {{"--list", "/dev/nbd0"}, "takes no device"},
      {{"--list", "--status", "/dev/nbd0"}, "exclude"},
      {{"--force", "/dev/nbd0", "memory"}, "--force goes with"},
      {{"--lazy", "/dev/nbd0", "memory"}, "--lazy goes with"},
      {{"--detach", "--lazy", "--force", "/dev/nbd0"}, "--lazy goes with"},
      {{"--json", "/dev/nbd0", "memory"}, "--json goes with"},
      {{"-", "--connections=0", "null"}, "from 1 to 16"},
      {{"-", "--connections=17", "null"}, "from 1 to 16"},
      {{"-", "--timeout=soon", "null"}, "--timeout: could not parse delay"},
      {{"-", "--timeout=5", "--recheck=1", "null"}, "exclude each other"},
      {{"-", "--recheck=1ms", "null"}, "--recheck=1ms"},
      {{"-", "--export"}, "--export"},
      {{"-", "--swap=later", "null"}, "--swap=later: must be"},
      {{"-", "--name=../a", "null"}, "--name=../a: must be"},
      {{"--detach", "--name=a", "/dev/nbd0"}, "--name goes with"},
      {{"-", "--metrics=9109", "null"}, "must be [HOST]:PORT"},
      {{"--detach", "--metrics=:1", "/dev/nbd0"}, "--metrics goes with"},
      {{"--upgrade", "--metrics=:1", "/dev/nbd0"}, "--metrics is the device's"},
      {{"--watch", "--status", "/dev/nbd0"}, "exclude"},
      {{"--diagnose", "--status", "/dev/nbd0"}, "exclude"},
      {{"--diagnose", "/dev/nbd0", "a", "b"}, "too many arguments: b"},
      {{"--diagnose"}, "which device?"},
      {{"--diagnose", "-"}, "-"},
      {{"--diagnose", "--metrics=:1", "/dev/nbd0"}, "--metrics goes with"},
      {{"--watch", "--interval=1ms"}, "--interval=1ms: must be"},
      {{"--interval=1s", "--list"}, "--interval goes with"},
      {{"--upgrade", "--name=a", "/dev/nbd0"}, "--name is the device's"},
      {{"--upgrade", "--swap", "/dev/nbd0"}, "--swap is the device's"},
      {{"-", "-e", "b", "nbd://host/a"}, "a part of the address"},
      {{"-", "nbd://-oProxyCommand=x/"}, "-oProxyCommand=x"},
      {{"-", "nbd://host/%zz"}, "no URI of NBD"},
      {{"-", "nbd://host/a", "retry=3"}, "only keeps-unflushed="},
      {{"-", "nbd://host/a", "keeps-unflushed=maybe"}, "maybe"},
  };
  for (const auto& [arguments, words] : kCases) {
    std::string why = refusal(arguments);
    EXPECT_NE(why.find(words), std::string::npos) << why << "\nexpected: " << words;
  }
}

}  // namespace
}  // namespace nbdkit
