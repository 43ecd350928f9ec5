// SPDX-License-Identifier: BSD-3-Clause
// What a server says and must not: every member that is missing, of another type or out of range.
#include "fixture_test.h"

namespace nbdkit {
namespace {

constexpr std::string_view kConnection =
    R"({"id":4,"user":1,"mode":"handshake","phase":"ending","export":"a","peer":"client"})";

std::string with(std::string_view body, std::string_view part, std::string_view instead) {
  std::string text(body);
  std::size_t at = text.find(part);
  EXPECT_NE(at, std::string::npos) << part;
  if (at != std::string::npos) text.replace(at, part.size(), instead);
  return text;
}

std::string list_of(std::string_view connections, bool more = false) {
  return R"({"connections":[)" + std::string(connections) +
         (more ? R"(],"more":true})" : R"(],"more":false})");
}

bool reads_export(std::string_view body) {
  return Export(nh_read_export(body.data(), body.size())) != nullptr;
}
bool reads_served(std::string_view body, nbdkit_handoff_mode mode) {
  return Served(nh_read_served(body.data(), body.size(), mode)) != nullptr;
}
bool reads_list(std::string_view body, std::uint64_t after = 0) {
  return Connections(nh_read_connections(body.data(), body.size(), after)) != nullptr;
}
bool reads_taken(std::string_view body, std::uint64_t id = 5) {
  return Taken(nh_read_taken(body.data(), body.size(), id)) != nullptr;
}
bool reads_event(std::string_view body, bool* known) {
  return Event(nh_read_event(body.data(), body.size(), known)) != nullptr;
}

TEST(AnswersTest, MembersThatAreNotKnownAreLeftAlone) {
  EXPECT_TRUE(reads_export(with(kExportBody, "{", R"({"new":{"size":-1},)")));
}

TEST(AnswersTest, EachMemberOfAnExportIsChecked) {
  ASSERT_TRUE(reads_export(kExportBody));
  constexpr std::pair<std::string_view, std::string_view> kWrong[] = {
      {R"("size":1048576,)", ""},
      {"1048576", "9223372036854775808"},
      {"1048576", "-1"},
      {"1048576", "1.5"},
      {"1048576", "\"1\""},
      {"365", "65537"},
      {"365", "364"},
      {R"("minimum":1,)", ""},
      {R"("minimum":1)", R"("minimum":3)"},
      {R"("minimum":1)", R"("minimum":131072)"},
      {R"("minimum":1)", R"("minimum":0)"},
      {"4096", "256"},
      {"4096", "67108864"},
      {"4294967295", "4294967296"},
      {"4294967295", "1000"},
      {"67108864", "4294967296"},
      {"true", "1"},
      {R"("disk-7")", "null"},
      {R"(\u00ed)", R"(\u0000)"},
      {"flushed", "always"},
      {R"("survives":"flushed",)", ""},
      {R"("swap_fit":true)", R"("swap_fit":"true")"},
      {R"({"size")", R"([{"size")"}};
  for (auto [part, instead] : kWrong) {
    EXPECT_FALSE(reads_export(with(kExportBody, part, instead))) << part << " -> " << instead;
    EXPECT_EQ(nbdkit_handoff_error_code(), NBDKIT_HANDOFF_E_PROTOCOL);
  }
  EXPECT_FALSE(reads_export(with(kExportBody, "365", "364")));
  EXPECT_NE(std::string(nbdkit_handoff_error()).find("transmission_flags"), std::string::npos);
}

TEST(AnswersTest, AnExportMayHaveNoPreferredSizes) {
  EXPECT_TRUE(reads_export(with(kExportBody, R"("minimum":1,"preferred":4096,"maximum":4294967295)",
                                R"("minimum":0,"preferred":0,"maximum":0)")));
}

TEST(AnswersTest, AServedSocketHasAnIdAndAnExport) {
  std::string with_id = with(kExportBody, "{", R"({"id":1,)");
  EXPECT_TRUE(reads_served(with_id, NBDKIT_HANDOFF_MODE_TRANSMISSION));
  EXPECT_FALSE(reads_served(kExportBody, NBDKIT_HANDOFF_MODE_TRANSMISSION));
  EXPECT_FALSE(reads_served(R"({"id":1})", NBDKIT_HANDOFF_MODE_TRANSMISSION));
  EXPECT_FALSE(reads_served("{}", NBDKIT_HANDOFF_MODE_HANDSHAKE));
  EXPECT_FALSE(reads_served("[]", NBDKIT_HANDOFF_MODE_HANDSHAKE));
}

TEST(AnswersTest, EachMemberOfAConnectionIsChecked) {
  ASSERT_TRUE(reads_list(list_of(kConnection)));
  constexpr std::pair<std::string_view, std::string_view> kWrong[] = {
      {R"("id":4)", R"("id":"4")"},      {R"("user":1,)", ""},
      {R"("user":1)", R"("user":-1)"},   {R"("user":1)", R"("user":4294967296)"},
      {R"("handshake")", R"("")"},       {R"("mode":"handshake",)", ""},
      {R"("ending")", R"("beginning")"}, {R"("export":"a")", R"("export":7)"},
      {R"("client")", R"("")"},          {R"("client")", R"("Client")"}};
  for (auto [part, instead] : kWrong) {
    EXPECT_FALSE(reads_list(list_of(with(kConnection, part, instead)))) << part;
  }
  EXPECT_FALSE(reads_list(list_of("7")));
  EXPECT_FALSE(reads_list(R"({"connections":{},"more":false})"));
  EXPECT_FALSE(reads_list(R"({"connections":[]})"));
}

// Or a client that asks for page after page would never come to an end.
TEST(AnswersTest, AListGoesForward) {
  std::string both = std::string(kConnection) + "," + with(kConnection, "4", "5");
  EXPECT_TRUE(reads_list(list_of(both, true), 3));
  EXPECT_FALSE(reads_list(list_of(both), 4));
  EXPECT_FALSE(reads_list(list_of(with(both, "5", "4"))));
  EXPECT_TRUE(reads_list(list_of("")));
  EXPECT_FALSE(reads_list(list_of("", true)));
}

TEST(AnswersTest, AListHasAtMost128Connections) {
  std::string connections;
  for (int i = 1; i <= 129; ++i) {
    if (i == 129) {
      EXPECT_TRUE(reads_list(list_of(connections)));
    }
    if (i > 1) connections += ",";
    connections += with(kConnection, "4", std::to_string(i));
  }
  EXPECT_FALSE(reads_list(list_of(connections)));
}

TEST(AnswersTest, EachMemberOfATakenConnectionIsChecked) {
  ASSERT_TRUE(reads_taken(kTakenBody));
  EXPECT_FALSE(reads_taken(kTakenBody, 6));
  constexpr std::pair<std::string_view, std::string_view> kWrong[] = {
      {R"("kernel")", R"("server")"},
      {"4096", "9223372036854775808"},
      {"365", "70000"},
      {R"("export":"a")", R"("export":null)"},
      {R"("state")", R"("status")"},
      {R"("structured_replies":true)", R"("structured_replies":1)"},
      {R"("extended_headers":false)", R"("extended_headers":0)"},
      {R"({"base:allocation":1})", "[]"},
      {R"("base:allocation":1)", R"("base:allocation":-1)"},
      {R"("base:allocation":1)", R"("base\u0000":1)"},
      {R"("base:allocation":1)", R"("base:allocation":4294967296)"},
      {R"("minimum":512,)", ""},
      {"512", "513"},
      {"65536", "1024"},
      {"25609513", "2560951"},
      {"25609513", "2560951g"},
      {"25609513", "25609513000000000000000000000000000000000000000000000000000000ff"},
      {R"("25609513")", "0"}};
  for (auto [part, instead] : kWrong) {
    EXPECT_FALSE(reads_taken(with(kTakenBody, part, instead))) << part << " -> " << instead;
  }
  EXPECT_TRUE(reads_taken(with(kTakenBody, "25609513", std::string(62, 'F'))));
  EXPECT_TRUE(reads_taken(with(kTakenBody, R"("base:allocation":1)", "")));
  // As servers answer that do not know of it.
  EXPECT_TRUE(reads_taken(
      with(kTakenBody, R"("block_size":{"minimum":512,"preferred":4096,"maximum":65536},)", "")));
}

TEST(AnswersTest, EventsAreKnownOrNotOrWrong) {
  struct Case {
    std::string_view body;
    bool read, known;
  };
  constexpr Case kCases[] = {{R"({"event":"ended","id":1,"reason":"closed"})", true, true},
                             {R"({"event":"ended","id":1,"reason":""})", false, true},
                             {R"({"event":"ended","reason":"closed"})", false, true},
                             {R"({"event":"began","id":1})", false, true},
                             {R"({"event":"missed"})", false, true},
                             {R"({"event":"stopping","when":0})", true, true},
                             {R"({"event":"","id":1})", false, false},
                             {R"({"event":"rained"})", false, false},
                             {R"({"event":1})", false, true},
                             {"{}", false, true},
                             {"[]", false, true}};
  for (const Case& event : kCases) {
    bool known = false;
    EXPECT_EQ(reads_event(event.body, &known), event.read) << event.body;
    EXPECT_EQ(known, event.known) << event.body;
  }
}

TEST(AnswersTest, AnErrorThatIsNoneIsTheServersFault) {
  for (std::string_view body :
       {"", "[]", "{}", R"({"code":"failed"})", R"({"message":"a"})", R"({"code":1,"message":"a"})",
        R"({"code":"failed","message":1})"}) {
    nh_refusal refusal;
    nh_read_refusal(body.data(), body.size(), &refusal);
    EXPECT_EQ(refusal.code, NBDKIT_HANDOFF_E_PROTOCOL) << body;
  }
}

TEST(AnswersTest, WhereNothingIsToBeSaidAnObjectIsEnough) {
  EXPECT_EQ(nh_read_nothing(R"({"new":1})", 9), 0);
  EXPECT_EQ(nh_read_nothing("[]", 2), -1);
}

}  // namespace
}  // namespace nbdkit
