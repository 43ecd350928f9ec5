// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/verbs.h"

#include <gtest/gtest.h>

namespace nbdkit {
namespace {

Json json(std::string_view text) {
  Result<Json> parsed = Json::parse(text);
  EXPECT_TRUE(parsed.ok()) << text;
  return std::move(parsed).value();
}

template <typename T>
void expect_refused(const Result<T>& result, std::errc code, std::string_view words) {
  ASSERT_FALSE(result.ok()) << words;
  EXPECT_EQ(result.error().code, code);
  EXPECT_NE(result.error().message().find(words), std::string::npos) << result.error().message();
}

TEST(Verbs, AQuerySurvivesTheWire) {
  HandoffQuery query{"name", true};
  Result<HandoffQuery> back = parse_query(to_json(query));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back.value().export_name, "name");
  EXPECT_TRUE(back.value().kernel);
}

TEST(Verbs, AllOfAQueryButItsVerbIsOptional) {
  Result<HandoffQuery> query = parse_query(json(R"({"verb":"query"})"));
  ASSERT_TRUE(query.ok());
  EXPECT_EQ(query.value().export_name, "");
  EXPECT_FALSE(query.value().kernel);
}

TEST(Verbs, AServeSurvivesTheWire) {
  HandoffServe serve;
  serve.mode = HandoffServe::Mode::handshake;
  serve.export_name = "name";
  serve.size = 1 << 20;
  serve.flags = 0x103;
  Result<HandoffServe> back = parse_serve(to_json(serve));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back.value().mode, HandoffServe::Mode::handshake);
  EXPECT_EQ(back.value().export_name, "name");
  EXPECT_FALSE(back.value().kernel);
  EXPECT_EQ(back.value().size, std::uint64_t{1} << 20);
  EXPECT_EQ(back.value().flags, 0x103);
}

TEST(Verbs, WrongValuesOfRequestsAreNamed) {
  for (const char* wrong : {R"({"export":1})", R"({"export":null})", R"({"export":["a"]})",
                            R"({"export":"a\u0000b"})"}) {
    expect_refused(parse_query(json(wrong)), std::errc::invalid_argument, "export: must be");
  }
  std::string long_name = R"({"export":")" + std::string(4097, 'x') + R"("})";
  expect_refused(parse_query(json(long_name)), std::errc::invalid_argument, "export: must be");
  for (const char* wrong : {R"({"peer":"Kernel"})", R"({"peer":true})", R"({"peer":""})"}) {
    expect_refused(parse_query(json(wrong)), std::errc::invalid_argument, "peer: must be");
  }
  for (const char* wrong : {"{}", R"({"mode":"both"})", R"({"mode":1})"}) {
    expect_refused(parse_serve(json(wrong)), std::errc::invalid_argument, "mode: must be");
  }
  for (const char* wrong : {R"("1")", "-1", "1.5", "9223372036854775808", "1e3", "null"}) {
    std::string text = R"({"mode":"handshake","size":)" + std::string(wrong) + "}";
    expect_refused(parse_serve(json(text)), std::errc::invalid_argument, "size: must be");
  }
  for (const char* wrong : {"65536", "-1", "true", "\"3\""}) {
    std::string text = R"({"mode":"handshake","flags":)" + std::string(wrong) + "}";
    expect_refused(parse_serve(json(text)), std::errc::invalid_argument, "flags: must be");
  }
}

TEST(Verbs, UnknownKeysAreNamed) {
  expect_refused(parse_query(json(R"({"verb":"query","mode":"handshake"})")),
                 std::errc::not_supported, "mode: no such key");
  expect_refused(parse_serve(json(R"({"mode":"handshake","colour":true})")),
                 std::errc::not_supported, "colour: no such key");
}

HandoffExport an_export() {
  HandoffExport info;
  info.size = (std::uint64_t{1} << 63) - 1;
  info.transmission_flags = 0x103;
  info.block_size = {512, 4096, 32 * 1024 * 1024};
  info.maximum_payload = 64 * 1024 * 1024;
  info.multi_conn = true;
  info.identity = "8:1:4711";
  info.description = "a disk";
  info.survives = Survives::flushed;
  info.shared_open = true;
  info.swap_fit = true;
  return info;
}

TEST(Verbs, AnExportSurvivesTheWire) {
  Result<HandoffExport> back = parse_export(to_json(an_export()));
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_EQ(back.value().size, an_export().size);
  EXPECT_EQ(back.value().transmission_flags, 0x103);
  EXPECT_TRUE(back.value().read_only());
  EXPECT_EQ(back.value().block_size.minimum, 512u);
  EXPECT_EQ(back.value().block_size.preferred, 4096u);
  EXPECT_EQ(back.value().block_size.maximum, 32u * 1024 * 1024);
  EXPECT_EQ(back.value().maximum_payload, 64u * 1024 * 1024);
  EXPECT_TRUE(back.value().multi_conn);
  EXPECT_EQ(back.value().identity, "8:1:4711");
  EXPECT_EQ(back.value().description, "a disk");
  EXPECT_EQ(back.value().survives, Survives::flushed);
  EXPECT_TRUE(back.value().shared_open);
  EXPECT_TRUE(back.value().swap_fit);
}

TEST(Verbs, AnswersMayHaveKeysOfALaterVersion) {
  Json body = to_json(an_export());
  body.set("resizable", true).set("block_size", json(R"({"minimum":1,"preferred":4096,
      "maximum":4294967295,"optimal":65536})"));
  EXPECT_TRUE(parse_export(body).ok());
}

TEST(Verbs, NoBlockSizesIsAnAnswer) {
  Json body = to_json(an_export());
  body.set("block_size", json(R"({"minimum":0,"preferred":0,"maximum":0})"));
  Result<HandoffExport> info = parse_export(body);
  ASSERT_TRUE(info.ok());
  EXPECT_FALSE(info.value().block_size.known());
}

TEST(Verbs, WrongAnswersAreTheServersFault) {
  struct Row {
    const char* key;
    const char* value;
  };
  const std::string long_text = "\"" + std::string(4097, 'x') + "\"";
  for (const Row& row : std::initializer_list<Row>{
           {"size", "9223372036854775808"},
           {"size", "-1"},
           {"size", "\"1\""},
           {"size", "null"},
           {"transmission_flags", "65536"},
           {"transmission_flags", "1.5"},
           {"maximum_payload", "4294967296"},
           {"multi_conn", "1"},
           {"identity", "5"},
           {"identity", long_text.c_str()},
           {"description", "{}"},
           {"survives", "\"everything\""},
           {"shared_open", "\"yes\""},
           {"swap_fit", "[]"},
           {"block_size", "512"},
           {"block_size", "{}"},
           {"block_size", R"({"minimum":3,"preferred":4096,"maximum":8192})"},
           {"block_size", R"({"minimum":131072,"preferred":131072,"maximum":131072})"},
           {"block_size", R"({"minimum":512,"preferred":256,"maximum":8192})"},
           {"block_size", R"({"minimum":512,"preferred":4096,"maximum":2048})"},
           {"block_size", R"({"minimum":512,"preferred":4096,"maximum":5000})"},
           {"block_size", R"({"minimum":0,"preferred":4096,"maximum":8192})"},
           {"block_size", R"({"minimum":1,"preferred":67108864,"maximum":4294967295})"},
           {"block_size", R"({"minimum":1,"preferred":4096,"maximum":4294967296})"},
       }) {
    Json body = to_json(an_export());
    body.set(row.key, json(row.value));
    expect_refused(parse_export(body), std::errc::protocol_error,
                   "the server's answer has no valid " + std::string(row.key));
  }
}

TEST(Verbs, WhatAnAnswerLacksIsTheServersFault) {
  expect_refused(parse_export(Json::object()), std::errc::protocol_error, "no valid size");
  using Mode = HandoffServe::Mode;
  expect_refused(parse_served(Json::object(), Mode::handshake), std::errc::protocol_error,
                 "no valid id");
  Json only_id = Json::object();
  only_id.set("id", 4);
  Result<HandoffServed> served = parse_served(only_id, Mode::handshake);
  ASSERT_TRUE(served.ok());
  EXPECT_EQ(served.value().id, 4u);
  EXPECT_FALSE(served.value().info.has_value());
  expect_refused(parse_served(only_id, Mode::transmission), std::errc::protocol_error,
                 "no valid size");
}

TEST(Verbs, AnAcceptedSocketSurvivesTheWire) {
  HandoffServed served;
  served.id = 9;
  served.info = an_export();
  Result<HandoffServed> back = parse_served(to_json(served), HandoffServe::Mode::transmission);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back.value().id, 9u);
  EXPECT_EQ(back.value().info->size, an_export().size);
}

}  // namespace
}  // namespace nbdkit
