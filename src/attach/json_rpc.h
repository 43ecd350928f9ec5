// SPDX-License-Identifier: BSD-3-Clause
// JSON-RPC 2.0 as the control socket speaks it (docs/control-protocol.md): one object a line.
#pragma once

#include <string>
#include <string_view>
#include <variant>

#include "base/json.h"
#include "base/result.h"

namespace nbdkit {

struct RpcCall {
  Json id;  // string or number; null in a notification, which gets no answer
  std::string method;
  Json params;  // an object, or null when there were none
};

enum class RpcCode : int {
  parse_error = -32700,
  invalid_request = -32600,
  method_not_found = -32601,
  invalid_params = -32602,
  failed = -32000,  // data.exit_code says what the command line would end with
};

// A call, or the answer to what is none. Batches are refused.
std::variant<RpcCall, Json> parse_rpc_call(std::string_view line);

Json rpc_result(const Json& id, Json result);
Json rpc_problem(const Json& id, RpcCode code, std::string_view sentence);
// A failure of the call itself, with its exit code.
Json rpc_failure(const Json& id, const Error& error);

// The other side: what a call with this id ended with. protocol_error when the line is no answer to
// it.
Result<Json> parse_rpc_answer(std::string_view line, const Json& id);

}  // namespace nbdkit
