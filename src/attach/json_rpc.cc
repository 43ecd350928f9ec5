// SPDX-License-Identifier: BSD-3-Clause
#include "attach/json_rpc.h"

#include <fmt/format.h>

#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

constexpr std::string_view kVersion = "2.0";

bool has_version(const Json& message) {
  const Json* version = message.find("jsonrpc");
  return version != nullptr && version->as_string() != nullptr && *version->as_string() == kVersion;
}

bool is_id(const Json& id) {
  return id.is_null() || id.as_string() != nullptr || id.as_signed() || id.as_unsigned();
}

Json answer(const Json& id) {
  Json message = Json::object();
  message.set("jsonrpc", kVersion).set("id", id);
  return message;
}

Json invalid(const Json& id, std::string_view why) {
  return rpc_problem(id, RpcCode::invalid_request, why);
}

Error broken(std::string_view why) {
  return Error(std::errc::protocol_error, fmt::format("the keeper's answer is wrong: {}", why));
}

}  // namespace

std::variant<RpcCall, Json> parse_rpc_call(std::string_view line) {
  Result<Json> message = Json::parse(line);
  if (!message.ok()) {
    return rpc_problem(Json(), RpcCode::parse_error, message.error().message());
  }
  const Json& request = message.value();
  if (request.as_object() == nullptr) return invalid(Json(), "one request object is expected");
  RpcCall call;
  if (const Json* id = request.find("id")) call.id = *id;
  if (!is_id(call.id)) return invalid(Json(), "\"id\" must be a string or a whole number");
  if (!has_version(request)) return invalid(call.id, "\"jsonrpc\" must be \"2.0\"");
  const Json* method = request.find("method");
  if (method == nullptr || method->as_string() == nullptr) {
    return invalid(call.id, "\"method\" must be a string");
  }
  call.method = *method->as_string();
  if (const Json* params = request.find("params")) call.params = *params;
  if (!call.params.is_null() && call.params.as_object() == nullptr) {
    return rpc_problem(call.id, RpcCode::invalid_params, "\"params\" must be an object");
  }
  return call;
}

Json rpc_result(const Json& id, Json result) { return answer(id).set("result", std::move(result)); }

Json rpc_problem(const Json& id, RpcCode code, std::string_view sentence) {
  Json error = Json::object();
  error.set("code", static_cast<int>(code)).set("message", sentence);
  return answer(id).set("error", std::move(error));
}

Json rpc_failure(const Json& id, const Error& error) {
  Json message = rpc_problem(id, RpcCode::failed, error.message());
  Json data = Json::object().set("exit_code", static_cast<int>(exit_code_of(error)));
  Json details = *message.find("error");
  return message.set("error", details.set("data", std::move(data)));
}

Result<Json> parse_rpc_answer(std::string_view line, const Json& id) {
  Result<Json> message = Json::parse(line);
  if (!message.ok()) return broken(message.error().message());
  const Json* answered = message.value().find("id");
  if (!has_version(message.value()) || answered == nullptr || !(*answered == id)) {
    return broken("it answers something else");
  }
  if (const Json* result = message.value().find("result")) return *result;
  const Json* error = message.value().find("error");
  const Json* text = error != nullptr ? error->find("message") : nullptr;
  if (text == nullptr || text->as_string() == nullptr) return broken("neither result nor error");
  const Json* data = error->find("data");
  const Json* code = data != nullptr ? data->find("exit_code") : nullptr;
  std::int64_t number = code != nullptr ? code->as_signed().value_or(1) : 1;
  bool known = number > 0 && number <= static_cast<int>(ExitCode::not_supported);
  return attach_error(known ? static_cast<ExitCode>(number) : ExitCode::failure,
                      *text->as_string());
}

}  // namespace nbdkit
