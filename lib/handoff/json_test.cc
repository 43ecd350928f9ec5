// SPDX-License-Identifier: BSD-3-Clause
#include <random>

#include "base/json.h"
#include "fixture_test.h"

namespace nbdkit {
namespace {

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {
    wrong_ = nh_json_read(&json_, text_.data(), text_.size());
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() { nh_json_free(&json_); }

  bool ok() const { return wrong_ == nullptr; }
  std::string wrong() const { return ok() ? "" : wrong_; }
  const nh_json* json() const { return &json_; }
  const nh_json_node* top() const { return &json_.nodes[0]; }
  std::string text(const nh_json_node& node) const {
    return std::string(json_.texts + node.text, node.text_length);
  }
  // The same value in the server's own form.
  Json value(const nh_json_node& node) const {
    switch (node.kind) {
      case NH_JSON_NULL:
        return {};
      case NH_JSON_FALSE:
      case NH_JSON_TRUE:
        return Json(node.kind == NH_JSON_TRUE);
      case NH_JSON_NUMBER:
        return Json::parse(text_.substr(node.begin, node.end - node.begin)).value();
      case NH_JSON_TEXT:
        return text(node);
      case NH_JSON_ARRAY:
      case NH_JSON_OBJECT:
        break;
    }
    Json whole = node.kind == NH_JSON_ARRAY ? Json::array() : Json::object();
    for (const nh_json_node* item = nh_json_first(&json_, &node); item != nullptr;
         item = nh_json_next(&json_, item)) {
      if (node.kind == NH_JSON_ARRAY) {
        whole.push(value(*item));
      } else {
        whole.set(std::string(json_.texts + item->name, item->name_length), value(*item));
      }
    }
    return whole;
  }

 private:
  std::string text_;
  nh_json json_;
  const char* wrong_;
};

std::string nested(std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

std::string members(std::size_t count) {
  std::string text = "{";
  for (std::size_t i = 0; i < count; ++i) {
    text += (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\":0";
  }
  return text + "}";
}

TEST(JsonReaderTest, WhatIsJsonIsRead) {
  for (std::string_view text :
       {"{}", "[]", " [ ] ", "[{}]", "{\"a\":[1,{\"b\":null}],\"c\":true}", "0", "-0", "-12.5e+3",
        "1E9", "\"\"", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\u0000\"", "\"\\ud83d\\ude00\"",
        "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", "\t\r\n null \n", "\"\x7f\"",
        "{\"\":1,\" \":2}"}) {
    Reader reader(text);
    ASSERT_TRUE(reader.ok()) << text << ": " << reader.wrong();
    EXPECT_EQ(reader.value(*reader.top()), Json::parse(text).value()) << text;
  }
}

TEST(JsonReaderTest, WhatIsNoJsonIsRefused) {
  using namespace std::string_view_literals;
  for (std::string_view text : {""sv,
                                " "sv,
                                "{"sv,
                                "["sv,
                                "}"sv,
                                "]"sv,
                                "[}"sv,
                                "{]"sv,
                                "[1"sv,
                                "[1,"sv,
                                "[1,]"sv,
                                "[,1]"sv,
                                "[1 2]"sv,
                                "{\"a\"}"sv,
                                "{\"a\":}"sv,
                                "{\"a\":1,}"sv,
                                "{,}"sv,
                                "{a:1}"sv,
                                "{1:1}"sv,
                                "{\"a\" 1}"sv,
                                "1 2"sv,
                                "{}{}"sv,
                                "{} x"sv,
                                "01"sv,
                                "-"sv,
                                "+1"sv,
                                ".5"sv,
                                "1."sv,
                                "1e"sv,
                                "1e+"sv,
                                "--1"sv,
                                "0x1"sv,
                                "NaN"sv,
                                "nul"sv,
                                "nulll"sv,
                                "True"sv,
                                "'a'"sv,
                                "\""sv,
                                "\"a"sv,
                                "\"\\"sv,
                                "\"\\x\""sv,
                                "\"\\u12\""sv,
                                "\"\\u12g4\""sv,
                                "\"\n\""sv,
                                "\"\0\""sv,
                                "\0"sv,
                                "{}\0"sv,
                                "\"\\ud800\""sv,
                                "\"\\ud800\\u0041\""sv,
                                "\"\\udc00\""sv,
                                "\"\\ud800x\""sv,
                                "\"\x80\""sv,
                                "\"\xc0\x80\""sv,
                                "\"\xc1\xbf\""sv,
                                "\"\xe0\x80\x80\""sv,
                                "\"\xed\xa0\x80\""sv,
                                "\"\xf0\x80\x80\x80\""sv,
                                "\"\xf4\x90\x80\x80\""sv,
                                "\"\xf5\x80\x80\x80\""sv,
                                "\"\xc3\""sv,
                                "\"\xe2\x82\""sv,
                                "\xef\xbb\xbf{}"sv}) {
    EXPECT_FALSE(Reader(text).ok()) << text;
  }
}

TEST(JsonReaderTest, LimitsHoldOnBothSides) {
  EXPECT_TRUE(Reader(nested(32)).ok());
  EXPECT_EQ(Reader(nested(33)).wrong(), "nested too deeply");
  EXPECT_FALSE(Reader(std::string(60'000, '[')).ok());
  EXPECT_TRUE(Reader(members(1024)).ok());
  EXPECT_NE(Reader(members(1025)).wrong().find("too many members"), std::string::npos);
  EXPECT_TRUE(Reader("[]" + std::string(65'510, ' ')).ok());
  EXPECT_FALSE(Reader("[]" + std::string(65'511, ' ')).ok());
}

TEST(JsonReaderTest, AMemberThatIsThereTwiceIsRefused) {
  EXPECT_NE(Reader(R"({"a":1,"b":2,"\u0061":3})").wrong().find("twice"), std::string::npos);
  EXPECT_TRUE(Reader(R"({"a":{"a":1},"b":{"a":1}})").ok());
}

TEST(JsonReaderTest, NumbersAreWholeAndInRange) {
  auto number = [](std::string_view text, std::uint64_t max) -> std::optional<std::uint64_t> {
    Reader reader(text);
    std::uint64_t value = 0;
    if (!nh_json_number(reader.json(), reader.top(), max, &value)) return std::nullopt;
    return value;
  };
  EXPECT_EQ(number("18446744073709551615", UINT64_MAX), UINT64_MAX);
  EXPECT_EQ(number("18446744073709551616", UINT64_MAX), std::nullopt);
  EXPECT_EQ(number("99999999999999999999999999", UINT64_MAX), std::nullopt);
  EXPECT_EQ(number("65535", 65535), 65535u);
  EXPECT_EQ(number("65536", 65535), std::nullopt);
  EXPECT_EQ(number("0", 1), 0u);
  EXPECT_EQ(number("1", 1), 1u);
  EXPECT_EQ(number("5", 1), std::nullopt);
  EXPECT_EQ(number("10", 1), std::nullopt);
  EXPECT_EQ(number("-1", 10), std::nullopt);
  EXPECT_EQ(number("1.0", 10), std::nullopt);
  EXPECT_EQ(number("1e0", 10), std::nullopt);
  EXPECT_EQ(number("\"1\"", 10), std::nullopt);
  EXPECT_EQ(number("true", 10), std::nullopt);
}

TEST(JsonReaderTest, MembersAreFoundByTheirWholeName) {
  Reader reader(R"({"ab":"x","a":{"b":[1,2]},"n\u0000":3})");
  const nh_json_node* a = nh_json_find(reader.json(), reader.top(), "a");
  ASSERT_NE(a, nullptr);
  const nh_json_node* b = nh_json_find(reader.json(), a, "b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->count, 2u);
  EXPECT_EQ(nh_json_find(reader.json(), b, "b"), nullptr);
  EXPECT_EQ(nh_json_find(reader.json(), reader.top(), "n"), nullptr);
  EXPECT_EQ(nh_json_find(reader.json(), nullptr, "a"), nullptr);
  const nh_json_node* text = nh_json_find(reader.json(), reader.top(), "ab");
  EXPECT_TRUE(nh_json_is_text(reader.json(), text, "x"));
  EXPECT_FALSE(nh_json_is_text(reader.json(), text, "xy"));
  EXPECT_FALSE(nh_json_is_text(reader.json(), a, "x"));
}

// The server reads with another library: both ends must agree on what a message is.
TEST(JsonReaderTest, BothEndsOfTheProtocolReadTheSame) {
  constexpr std::string_view kPieces[] = {
      "{",        "}",        "[",         "]",       ",",       ":",       "\"",
      "\"a\"",    "\"b\":",   "1",         "-",       "0",       ".",       "true",
      "null",     " ",        "\\u0041",   "\\ud800", "\\udc00", "\\n",     "\x80",
      "\xc3\xa9", "\xed\xa0", "{\"a\":1}", "[[",      "]]",      "\"x\":[", "\n"};
  std::mt19937 random(7);
  for (int round = 0; round < 50'000; ++round) {
    std::string text = round % 2 == 0 ? "{\"a\":" : "[";
    for (unsigned left = random() % 8; left > 0; --left) {
      text += kPieces[random() % std::size(kPieces)];
    }
    text += round % 2 == 0 ? "}" : "]";
    Reader reader(text);
    Result<Json> json = Json::parse(text);
    ASSERT_EQ(reader.ok(), json.ok()) << text;
    if (reader.ok()) {
      ASSERT_EQ(reader.value(*reader.top()), json.value()) << text;
    }
  }
}

TEST(JsonWriterTest, WhatIsWrittenIsReadBack) {
  std::string buffer(1000, '\0');
  nh_writer writer;
  std::string every;
  for (char c = 1; c < 0x7f; ++c) every += c;
  every += "\x7f\xc3\xa9\xf0\x9f\x98\x80";
  nh_write_begin(&writer, buffer.data(), buffer.size());
  nh_write_text(&writer, "text", every.c_str());
  nh_write_number(&writer, "number", UINT64_MAX);
  nh_write_bool(&writer, "is", false);
  nh_write_raw(&writer, "raw", "{\"a\":[]}");
  ASSERT_TRUE(nh_write_end(&writer));
  Result<Json> json = Json::parse(std::string_view(buffer).substr(0, writer.length));
  ASSERT_TRUE(json.ok()) << buffer;
  EXPECT_EQ(*json.value().find("text")->as_string(), every);
  EXPECT_EQ(json.value().find("number")->as_unsigned(), UINT64_MAX);
  EXPECT_EQ(json.value().find("is")->as_bool(), false);
  EXPECT_NE(json.value().find("raw")->find("a"), nullptr);
}

TEST(JsonWriterTest, ItNeverWritesBeyondItsRoom) {
  for (std::size_t room = 0; room < 30; ++room) {
    std::string buffer(room + 1, '~');
    nh_writer writer;
    nh_write_begin(&writer, buffer.data(), room);
    nh_write_text(&writer, "a", "\n\"12");
    nh_write_number(&writer, "b", 1);
    bool fits = nh_write_end(&writer);
    EXPECT_EQ(fits, room >= std::string_view(R"({"a":"\u000a\"12","b":1})").size()) << room;
    EXPECT_EQ(buffer[room], '~');
  }
}

TEST(JsonWriterTest, InvalidUtf8IsNotSent) {
  std::string buffer(100, '\0');
  nh_writer writer;
  nh_write_begin(&writer, buffer.data(), buffer.size());
  nh_write_text(&writer, "a", "x\xff");
  EXPECT_FALSE(nh_write_end(&writer));
  EXPECT_TRUE(writer.bad_text);
}

}  // namespace
}  // namespace nbdkit
