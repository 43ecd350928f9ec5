// SPDX-License-Identifier: BSD-3-Clause
#include "attach/json_rpc.h"

#include <gtest/gtest.h>

#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

std::int64_t refusal(std::string_view line) {
  auto parsed = parse_rpc_call(line);
  const Json* answer = std::get_if<Json>(&parsed);
  if (answer == nullptr) return 0;
  return answer->find("error")->find("code")->as_signed().value();
}

TEST(JsonRpcTest, ACallIsUnderstood) {
  auto parsed =
      parse_rpc_call(R"({"jsonrpc":"2.0","id":7,"method":"detach","params":{"force":true}})");
  const RpcCall* call = std::get_if<RpcCall>(&parsed);
  ASSERT_NE(call, nullptr);
  EXPECT_EQ(call->id, Json(7));
  EXPECT_EQ(call->method, "detach");
  EXPECT_EQ(call->params.find("force")->as_bool(), true);
}

TEST(JsonRpcTest, WhatIsNoCallIsRefusedByItsKind) {
  EXPECT_EQ(refusal("{"), -32700);
  EXPECT_EQ(refusal(std::string(100'000, '[')), -32700);
  EXPECT_EQ(refusal("[]"), -32600);
  EXPECT_EQ(refusal("1"), -32600);
  EXPECT_EQ(refusal(R"({"id":1,"method":"status"})"), -32600);
  EXPECT_EQ(refusal(R"({"jsonrpc":"2.0","id":{},"method":"status"})"), -32600);
  EXPECT_EQ(refusal(R"({"jsonrpc":"2.0","id":1,"method":2})"), -32600);
  EXPECT_EQ(refusal(R"({"jsonrpc":"2.0","id":1,"method":"x","params":[1]})"), -32602);
}

TEST(JsonRpcTest, AnAnswerIsReadBack) {
  Json id(1);
  EXPECT_EQ(parse_rpc_answer(rpc_result(id, Json("yes")).dump(), id).value(), Json("yes"));
  Result<Json> failed =
      parse_rpc_answer(rpc_failure(id, attach_error(ExitCode::busy, "nbd0 is mounted")).dump(), id);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().message(), "nbd0 is mounted");
  EXPECT_EQ(exit_code_of(failed.error()), ExitCode::busy);
}

TEST(JsonRpcTest, AnAnswerToSomethingElseIsNotTaken) {
  EXPECT_FALSE(parse_rpc_answer(rpc_result(Json(2), Json()).dump(), Json(1)).ok());
  EXPECT_FALSE(parse_rpc_answer("{}", Json(1)).ok());
  EXPECT_FALSE(parse_rpc_answer("", Json(1)).ok());
  EXPECT_FALSE(parse_rpc_answer(R"({"jsonrpc":"2.0","id":1,"error":5})", Json(1)).ok());
}

}  // namespace
}  // namespace nbdkit
