// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_options.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace nbdkit {
namespace {

using Action = Options::Action;

Result<Options> parse(std::vector<std::string> words) {
  words.insert(words.begin(), "/some/where/nbdkit");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  return parse_options(static_cast<int>(argv.size()), argv.data());
}

std::string refusal(std::vector<std::string> words) {
  Result<Options> options = parse(std::move(words));
  return options.ok() ? "accepted" : std::string(options.error().message());
}

std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

TEST(NbdkitOptions, OptionsMayComeAfterThePluginAndItsParameters) {
  Options options = parse({"-r", "file", "disk.img", "-f", "cache=none", "-p", "10"}).value();
  EXPECT_EQ(options.plugin, "file");
  EXPECT_EQ(options.parameters, (std::vector<std::string>{"disk.img", "cache=none"}));
  EXPECT_TRUE(options.read_only);
  EXPECT_TRUE(options.foreground);
  EXPECT_EQ(options.port, "10");
}

TEST(NbdkitOptions, TwoDashesEndTheOptionsAndOneDashIsAParameter) {
  Options options = parse({"sh", "-", "--", "-f"}).value();
  EXPECT_EQ(options.parameters, (std::vector<std::string>{"-", "-f"}));
  EXPECT_FALSE(options.foreground);
}

TEST(NbdkitOptions, UnambiguousPrefixesAreEnough) {
  EXPECT_TRUE(parse({"--fore", "null"}).value().foreground);
  EXPECT_EQ(parse({"--unix=-", "null"}).value().private_unix, true);
  EXPECT_EQ(parse({"--dump-p", "null"}).value().action, Action::dump_plugin);
  EXPECT_EQ(parse({"--dump-", "null"}).value().action, Action::bad_usage);
}

TEST(NbdkitOptions, EveryAliasMeansTheSame) {
  for (std::string name : {"-e", "--exportname", "--export-name", "--export"}) {
    EXPECT_EQ(parse({name, "x", "null"}).value().export_name, "x") << name;
  }
  for (std::string name : {"-r", "--readonly", "--read-only"}) {
    EXPECT_TRUE(parse({name, "null"}).value().read_only) << name;
  }
  for (std::string name : {"-f", "--foreground", "--no-fork"}) {
    EXPECT_TRUE(parse({name, "null"}).value().foreground) << name;
  }
  for (std::string name : {"-s", "--single", "--stdin"}) {
    EXPECT_TRUE(parse({name, "null"}).value().single) << name;
  }
}

TEST(NbdkitOptions, FiltersKeepTheirOrder) {
  EXPECT_EQ(parse({"--filter=log", "null", "--filter", "offset"}).value().filters,
            (std::vector<std::string>{"log", "offset"}));
}

TEST(NbdkitOptions, TheLastOfTwoFamiliesWins) {
  EXPECT_EQ(parse({"-4", "-6", "null"}).value().family, Options::Family::ipv6);
  EXPECT_EQ(parse({"-6", "-4", "null"}).value().family, Options::Family::ipv4);
}

TEST(NbdkitOptions, AnUnknownOptionOrAMissingArgumentIsBadUsage) {
  EXPECT_EQ(parse({"--nosuch", "null"}).value().action, Action::bad_usage);
  EXPECT_EQ(parse({"null", "-x"}).value().action, Action::bad_usage);
  EXPECT_EQ(parse({"null", "-p"}).value().action, Action::bad_usage);
  EXPECT_EQ(parse({"--readonly=yes", "null"}).value().action, Action::bad_usage);
}

TEST(NbdkitOptions, ReportsNeedNothingThatComesBehindThem) {
  EXPECT_EQ(parse({"--dump-config", "--nosuch"}).value().action, Action::dump_config);
  EXPECT_EQ(parse({"--long-options"}).value().action, Action::long_options);
  EXPECT_EQ(parse({"--short-options"}).value().action, Action::short_options);
  EXPECT_EQ(parse({"--help"}).value().action, Action::help);
  EXPECT_EQ(parse({"-V"}).value().action, Action::version);
}

TEST(NbdkitOptions, APluginIsNeededToServe) {
  EXPECT_NE(refusal({}).find("no plugin"), std::string::npos);
  EXPECT_NE(refusal({"--dump-plugin"}).find("--dump-config"), std::string::npos);
  EXPECT_NE(refusal({""}).find("empty"), std::string::npos);
}

TEST(NbdkitOptions, PathsAreMadeAbsolute) {
  Options options = parse({"-U", "sock", "-P", "pid", "null"}).value();
  EXPECT_EQ(options.unix_paths.at(0).front(), '/');
  EXPECT_TRUE(options.unix_paths.at(0).ends_with("/sock"));
  EXPECT_TRUE(options.pid_file.ends_with("/pid"));
}

TEST(NbdkitOptions, AUnixPathMustFitTheKernelsLimit) {
  std::string path(107, 'x');
  path[0] = '/';
  EXPECT_EQ(parse({"-U", path, "null"}).value().unix_paths.at(0), path);
  EXPECT_NE(refusal({"-U", path + "x", "null"}).find("-U: path too long: length 108 > max 107"),
            std::string::npos);
  EXPECT_NE(refusal({"-U", "", "null"}).find("-U: "), std::string::npos);
}

TEST(NbdkitOptions, APortIsANumberTo65535OrAName) {
  EXPECT_EQ(parse({"-p", "0", "null"}).value().port, "0");
  EXPECT_EQ(parse({"-p", "65535", "null"}).value().port, "65535");
  EXPECT_EQ(parse({"-p", "nbd", "null"}).value().port, "nbd");
  EXPECT_EQ(parse({"-p", "010809", "null"}).value().port, "010809");
  EXPECT_NE(refusal({"-p", "65536", "null"}).find("'65536' is not a port"), std::string::npos);
  EXPECT_NE(refusal({"-p", "", "null"}).find("is not a port"), std::string::npos);
  EXPECT_NE(refusal({"-p", "99999999999999999999", "null"}).find("is not a port"),
            std::string::npos);
}

TEST(NbdkitOptions, ThreadsAreAPositiveNumberAnd0IsTheDefault) {
  EXPECT_EQ(parse({"null"}).value().threads, 16u);
  EXPECT_EQ(parse({"-t", "0", "null"}).value().threads, 16u);
  EXPECT_EQ(parse({"-t", "1", "null"}).value().threads, 1u);
  EXPECT_EQ(parse({"-t", "0x40", "null"}).value().threads, 64u);
  EXPECT_NE(refusal({"-t", "-1", "null"}).find("-t: "), std::string::npos);
  EXPECT_NE(refusal({"-t", "x", "null"}).find("-t: "), std::string::npos);
}

TEST(NbdkitOptions, ADebugFlagNamesASymbolOfTheModule) {
  Options options = parse({"-D", "vddk.a.b=0x10", "null"}).value();
  ASSERT_EQ(options.debug_flags.size(), 1u);
  EXPECT_EQ(options.debug_flags[0].symbol(), "vddk_debug_a_b");
  EXPECT_EQ(options.debug_flags[0].value, 16);
  for (std::string text : {"foo", "foo=1", ".x=1", "foo.=1", "foo.x", "a=b.c"}) {
    EXPECT_NE(refusal({"-D", text, "null"}).find("NAME.FLAG=N"), std::string::npos) << text;
  }
  EXPECT_NE(refusal({"-D", "foo.x=y", "null"}).find("-D foo.x=y: "), std::string::npos);
}

TEST(NbdkitOptions, InheritedDescriptorsLieAboveStderr) {
  EXPECT_EQ(parse({"--handoff-fd=7", "null"}).value().handoff.fds, std::vector<int>{7});
  EXPECT_EQ(parse({"--kept-memory-fd=9", "null"}).value().kept_memory_fd, 9);
  EXPECT_NE(refusal({"--handoff-fd=2", "null"}).find("above 2"), std::string::npos);
  EXPECT_NE(refusal({"--handoff-fd=x", "null"}).find("--handoff-fd: "), std::string::npos);
  EXPECT_EQ(parse({"--survives=flushed", "null"}).value().survives, Survives::flushed);
  EXPECT_EQ(refusal({"--survives=all", "null"}),
            "--survives: 'all' is none of nothing, flushed and durable");
  EXPECT_EQ(refusal({"--handoff-fd=7", "--kept-memory-fd=7", "null"}),
            "descriptor 7 is given twice");
  EXPECT_EQ(refusal({"--fd=7", "--fd=8", "--fd=7", "null"}), "descriptor 7 is given twice");
}

TEST(NbdkitOptions, GivenSocketsHaveAModeAndAnExport) {
  auto given = parse({"--fd=3", "--fd=4,mode=handshake", "--fd=5,mode=transmission",
                      "--fd=6,mode=transmission,export=a,b", "null"})
                   .value()
                   .handoff.given;
  ASSERT_EQ(given.size(), 4u);
  EXPECT_EQ(given[0].fd, 3);
  EXPECT_FALSE(given[0].transmission);
  EXPECT_FALSE(given[1].transmission);
  EXPECT_TRUE(given[2].transmission);
  EXPECT_EQ(given[2].export_name, "");
  EXPECT_EQ(given[3].export_name, "a,b");
  EXPECT_NE(refusal({"--fd=2", "null"}).find("above 2"), std::string::npos);
  EXPECT_NE(refusal({"--fd=x", "null"}).find("--fd: "), std::string::npos);
  EXPECT_NE(refusal({"--fd=3,mode=fast", "null"}).find("not 'fast'"), std::string::npos);
  EXPECT_NE(refusal({"--fd=3,colour=red", "null"}).find("what follows"), std::string::npos);
  EXPECT_NE(refusal({"--fd=3,export=a", "null"}).find("mode=transmission"), std::string::npos);
  std::string long_name(4097, 'x');
  EXPECT_NE(refusal({"--fd=3,mode=transmission,export=" + long_name, "null"}).find("4096"),
            std::string::npos);
  for (const char* other : {"-s", "--run=true"}) {
    EXPECT_NE(refusal({"--fd=3", other, "null"}).find("cannot be used with"), std::string::npos);
    EXPECT_NE(refusal({"--handoff=/x", other, "null"}).find("cannot be used"), std::string::npos);
  }
}

TEST(NbdkitOptions, ControlSocketsHaveAPathAModeAndUsers) {
  HandoffOptions plain = parse({"--handoff=sock", "null"}).value().handoff;
  EXPECT_EQ(plain.path.front(), '/');
  EXPECT_EQ(plain.mode, 0600u);
  HandoffOptions open = parse({"--handoff=/s", "--handoff-mode=0660", "--handoff-user=root",
                               "--handoff-user=4711", "null"})
                            .value()
                            .handoff;
  EXPECT_EQ(open.mode, 0660u);
  EXPECT_EQ(open.users, (std::vector<uid_t>{0, 4711}));
  for (const char* wrong : {"", "8", "rw", "1777", "77777"}) {
    EXPECT_NE(refusal({std::string("--handoff-mode=") + wrong, "null"}).find("in octal"),
              std::string::npos)
        << wrong;
  }
  EXPECT_NE(refusal({"--handoff-user=no-such-user", "null"}).find("no user name"),
            std::string::npos);
  EXPECT_NE(refusal({"--handoff=" + std::string(200, 'x'), "null"}).find("too long"),
            std::string::npos);
  EXPECT_TRUE(plain.any());
  EXPECT_FALSE(plain.inherits());
}

TEST(NbdkitOptions, WhatStaysInTheForeground) {
  EXPECT_FALSE(parse({"null"}).value().stays());
  EXPECT_TRUE(parse({"-f", "null"}).value().stays());
  EXPECT_TRUE(parse({"-s", "null"}).value().stays());
  EXPECT_TRUE(parse({"--run", "", "null"}).value().stays());
  EXPECT_TRUE(parse({"--exit-with-parent", "null"}).value().stays());
  EXPECT_TRUE(parse({"--handoff-fd=7", "null"}).value().stays());
}

TEST(NbdkitOptions, OptionsThatExcludeEachOther) {
  const std::vector<std::vector<std::string>> pairs{
      {"-p", "1", "-U", "-"},        {"-p", "1", "-s"},       {"-U", "-", "-s"},
      {"-s", "--run", "x"},          {"-s", "--dump-plugin"}, {"--handoff-fd=7", "-s"},
      {"--handoff-fd=7", "--run=x"}, {"--vsock", "-U", "-"},  {"--vsock", "-s"},
      {"--print-uri", "-s"}};
  for (std::vector<std::string> pair : pairs) {
    pair.push_back("null");
    EXPECT_NE(refusal(pair).find(" cannot be used with "), std::string::npos) << pair[0];
  }
}

TEST(NbdkitOptions, WhereToListenMayBeGivenSeveralTimes) {
  Options options =
      parse({"-U", "/a", "-U", "-", "-U", "/b", "-i", "::1", "-i", "127.0.0.1", "null"}).value();
  EXPECT_EQ(options.unix_paths, (std::vector<std::string>{"/a", "/b"}));
  EXPECT_TRUE(options.private_unix);
  EXPECT_EQ(options.ip_addresses, (std::vector<std::string>{"::1", "127.0.0.1"}));
}

TEST(NbdkitOptions, TheHandshakeHasRules) {
  HandshakeRules rules = parse({"null"}).value().handshake;
  EXPECT_EQ(rules.flags, kFixedNewstyle | kNoZeroes);
  EXPECT_TRUE(rules.chunks && rules.meta_contexts && !rules.oldstyle);
  EXPECT_EQ(rules.limit, Nanoseconds(0));
  rules = parse({"--mask-handshake=0x2", "--no-sr", "--no-mc", "--timeout=1500ms", "-o", "null"})
              .value()
              .handshake;
  EXPECT_EQ(rules.flags, kNoZeroes);
  EXPECT_TRUE(!rules.chunks && !rules.meta_contexts && rules.oldstyle);
  EXPECT_EQ(rules.limit, Milliseconds(1500));
  EXPECT_FALSE(parse({"-o", "-n", "null"}).value().handshake.oldstyle);
  EXPECT_EQ(refusal({"--mask-handshake=x", "null"}),
            "--mask-handshake: could not parse number: 'x'");
  EXPECT_NE(refusal({"--timeout=soon", "null"}).find("--timeout: "), std::string::npos);
}

TEST(NbdkitOptions, TheLogGoesToOneOfSeveralPlaces) {
  EXPECT_EQ(parse({"null"}).value().log.kind, LogTarget::Kind::automatic);
  EXPECT_EQ(parse({"--log=journal", "null"}).value().log.kind, LogTarget::Kind::journal);
  EXPECT_EQ(parse({"--log=/a/b", "null"}).value().log.path, "/a/b");
  EXPECT_NE(refusal({"--log=a/b", "null"}).find("--log: 'a/b' is none of"), std::string::npos);
}

TEST(NbdkitOptions, PortsOfVirtualMachinesHave32Bits) {
  EXPECT_EQ(parse({"--vsock", "-p", "4294967295", "null"}).value().port, "4294967295");
  EXPECT_NE(refusal({"--vsock", "-p", "nbd", "null"}), "");
  EXPECT_NE(refusal({"-p", "4294967295", "null"}), "");
}

TEST(NbdkitOptions, TlsMayBeOffOnOrRequired) {
  EXPECT_EQ(parse({"null"}).value().tls.mode, std::nullopt);
  for (const char* off : {"off", "0", "no", "FALSE"}) {
    EXPECT_EQ(parse({"--tls", off, "null"}).value().tls.mode, TlsMode::off) << off;
  }
  EXPECT_EQ(parse({"--tls=on", "null"}).value().tls.mode, TlsMode::on);
  for (const char* must : {"require", "Required", "FORCE"}) {
    EXPECT_EQ(parse({"--tls", must, "null"}).value().tls.mode, TlsMode::require) << must;
  }
  EXPECT_EQ(refusal({"--tls=perhaps", "null"}), "--tls: 'perhaps' is none of off, on and require");
  EXPECT_EQ(refusal({"--tls=", "null"}), "--tls: '' is none of off, on and require");
  EXPECT_EQ(refusal({"--tls-psk=", "null"}), "--tls-psk: the file is empty");
  EXPECT_EQ(refusal({"-o", "--tls=require", "null"}), "-o cannot be used with --tls=require");
  EXPECT_TRUE(parse({"-o", "--tls=on", "null"}).ok());
}

TEST(NbdkitOptions, SwapMayBeForced) {
  EXPECT_EQ(parse({"--swap", "null"}).value().swap, SwapMode::on);
  EXPECT_EQ(parse({"--swap=force", "null"}).value().swap, SwapMode::force);
  EXPECT_EQ(refusal({"--swap=x", "null"}), "--swap=x: must be --swap or --swap=force");
}

std::string argument_for(const OptionRow& row) {
  if (row.argument.empty()) return "";
  if (row.id == 'D') return "=a.b=1";
  if (row.id == kSurvives) return "=durable";
  if (row.id == kSwap) return "=force";
  if (row.id == kTls) return "=on";
  return row.id == kLog ? "=stderr" : "=7";
}

TEST(NbdkitOptions, EveryOptionIsTaken) {
  for (const OptionRow& row : option_rows()) {
    std::string name = "--" + std::string(row.names.substr(0, row.names.find(' ')));
    std::string argument = argument_for(row);
    Result<Options> options = parse({name + argument, "null"});
    ASSERT_TRUE(options.ok()) << options.error().message();
    EXPECT_NE(options.value().action, Action::bad_usage) << name;
  }
}

TEST(NbdkitOptions, ThePageHasEveryOptionAndNoOther) {
  std::ifstream file(NBDKIT_TEST_SOURCE_DIR "/man/nbdkit.1.pod");
  std::vector<std::string> items;
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("=item ")) continue;
    for (std::size_t at = 0; (at = line.find("B<-", at)) != line.npos;) {
      at += 2;
      items.push_back(line.substr(at, line.find_first_of(">= ", at) - at));
    }
  }
  std::vector<std::string> known = words(long_option_list());
  for (const std::string& letter : words(short_option_list())) known.push_back(letter);
  std::sort(known.begin(), known.end());
  std::sort(items.begin(), items.end());
  EXPECT_EQ(items, known);
}

}  // namespace
}  // namespace nbdkit
