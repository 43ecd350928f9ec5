// SPDX-License-Identifier: BSD-3-Clause
#include "event.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <string>

namespace nbdkit {
namespace {

using Type = Event::Type;

// The line without its time.
std::string line(const Event& event) { return event.line(timespec{0, 0}).substr(27); }

TEST(LogEvent, LinesBeginWithTheLocalTime) {
  std::string line = Event(Type::print, "Fork", 0, 0).line(timespec{86400 * 365, 7'001'999});
  ASSERT_EQ(line.size(), std::string("1971-01-01 00:00:00.007001 Fork\n").size());
  EXPECT_EQ(line.substr(0, 5), "1971-");
  EXPECT_EQ(line.substr(19), ".007001 Fork\n");
}

TEST(LogEvent, EachTypeHasItsForm) {
  EXPECT_EQ(line(Event(Type::print, "Disconnect", 3, 0).number("transactions", 11)),
            "connection=3 Disconnect transactions=11\n");
  EXPECT_EQ(line(Event(Type::enter, "Read", 1, 7).hex("offset", 0).hex("count", 512)),
            "connection=1 Read id=7 offset=0x0 count=0x200 ...\n");
  EXPECT_EQ(line(Event(Type::leave, "Read", 1, 7).outcome({})),
            "connection=1 ...Read id=7 return=0\n");
}

TEST(LogEvent, FailuresAreNamed) {
  auto failed = [](std::errc code) { return line(Event(Type::leave, "A", 0, 1).outcome(code)); };
  EXPECT_EQ(failed(std::errc::io_error), "...A id=1 return=-1 error=EIO\n");
  EXPECT_EQ(failed(std::errc::no_space_on_device), "...A id=1 return=-1 error=ENOSPC\n");
  EXPECT_EQ(failed(std::errc::not_supported), "...A id=1 return=-1 error=ENOTSUP\n");
  EXPECT_EQ(failed(static_cast<std::errc>(99999)), "...A id=1 return=-1 error=EIO\n");
}

TEST(LogEvent, ExtentsAndExportsAreLists) {
  std::array extents{Extent{0, 0x8000, ExtentType::data}, Extent{0x8000, 512, ExtentType::hole},
                     Extent{0x8200, 512, ExtentType::zero},
                     Extent{0x8400, 512, ExtentType::hole_and_zero}};
  EXPECT_EQ(
      line(Event(Type::leave, "Extents", 1, 1).extents(extents)),
      "connection=1 ...Extents id=1 extents=(0x0 0x8000 \"\" 0x8000 0x200 \"hole\" 0x8200 0x200 "
      "\"zero\" 0x8400 0x200 \"hole,zero\")\n");
  std::array exports{ExportEntry{"", ""}, ExportEntry{"b b", ""}, ExportEntry{"a", ""}};
  EXPECT_EQ(line(Event(Type::leave, "ListExports", 0, 1).exports(exports)),
            "...ListExports id=1 exports=(\"\" \"b b\" a)\n");
}

TEST(LogEvent, ALongListIsCut) {
  std::vector<Extent> extents(1 << 20, Extent{0, 512, ExtentType::data});
  std::string text = line(Event(Type::leave, "Extents", 1, 1).extents(extents));
  EXPECT_LT(text.size(), kListTextMax + 200);
  EXPECT_NE(text.find(" ...)"), std::string::npos);
}

TEST(LogEvent, TextsAreBareOrQuoted) {
  EXPECT_EQ(quote_for_log("a.-_=,:/9Z"), "a.-_=,:/9Z");
  EXPECT_EQ(quote_for_log(""), "\"\"");
  EXPECT_EQ(quote_for_log("b b"), "\"b b\"");
  EXPECT_EQ(quote_for_log("it's \"q$`\\"), "\"it's \\\"q\\$\\`\\\\\"");
}

// The name of an export comes from the client and must not forge lines.
TEST(LogEvent, ATextStaysOnItsLine) {
  EXPECT_EQ(quote_for_log("a\n2020-01-01 Disconnect\x7f"), "\"a\\x0a2020-01-01 Disconnect\\x7f\"");
}

// What the shell makes of it, as bytes.
std::string through_shell(const std::string& assignments) {
  std::string command = assignments + "printf %s \"$export\"";
  std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), &::pclose);
  std::string all;
  char buffer[4096];
  std::size_t count;
  while ((count = std::fread(buffer, 1, sizeof buffer, pipe.get())) > 0) all.append(buffer, count);
  return all;
}

TEST(LogEvent, TheShellGetsTextsUnchanged) {
  for (std::string name : {"", "plain", "two words", "it's", "$(touch /tmp/x) `id` \"\\", "a\nb"}) {
    EXPECT_EQ(through_shell(Event(Type::print, "Connect", 1, 0).text("export", name).assignments()),
              name);
  }
  EXPECT_EQ(
      through_shell(
          Event(Type::print, "Connect", 1, 0).text("export", std::string("a\0b", 3)).assignments()),
      "ab");
}

TEST(LogEvent, AssignmentsNameEverything) {
  std::array extents{Extent{0, 512, ExtentType::hole}};
  EXPECT_EQ(
      Event(Type::leave, "Extents", 2, 5).extents(extents).outcome({}).assignments(),
      "act=Extents\nconnection=2\ntype=LEAVE\nid=5\nextents='(0x0 0x200 \"hole\")'\nreturn=0\n");
}

}  // namespace
}  // namespace nbdkit
