// SPDX-License-Identifier: BSD-3-Clause
#include "script/script_layer.h"

#include <fmt/format.h>

#include <utility>

#include "base/secret.h"
#include "script/opening.h"
#include "script/script_device.h"

namespace nbdkit {

void ScriptLayer::declare(Params&) {
  folder_made_ = folder_.make();
  runner_.prepare(environment(), folder_.path());
}

Result<void> ScriptLayer::usable() const {
  if (folder_made_.ok()) return {};
  return Error(
      folder_made_.error().code,
      fmt::format("cannot make the scripts' temporary folder: {}", folder_made_.error().message()));
}

Result<void> ScriptLayer::start_call(std::string_view method) const {
  Result<bool> called = ScriptMethods(runner_).optional(method, {});
  if (!called.ok()) return std::move(called).error();
  return {};
}

Result<void> ScriptLayer::tell_parameter(std::string_view key, std::string_view value) const {
  NBDKIT_TRY(usable());
  Result<bool> told =
      ScriptMethods(runner_).optional("config", {std::string(key), std::string(value)});
  if (!told.ok()) return std::move(told).error();
  if (told.value()) return {};
  return Error(std::errc::invalid_argument,
               fmt::format("{}: {}: this plugin does not need command line configuration",
                           shown_parameter(key, value), place("config")));
}

Result<ThreadModel> ScriptLayer::ask_thread_model() const {
  Result<std::optional<ThreadModel>> model = ScriptMethods(runner_).thread_model();
  if (!model.ok()) return std::move(model).error();
  return model.value().value_or(ThreadModel::serialize_all_requests);
}

ThreadModel ScriptLayer::thread_model() const {
  if (thread_model_) return *thread_model_;
  Result<ThreadModel> model = ask_thread_model();
  return model.ok() ? model.value() : ThreadModel::serialize_all_requests;
}

Result<void> ScriptLayer::configured() {
  NBDKIT_TRY(usable());
  NBDKIT_TRY(start_call("config_complete"));
  Result<ThreadModel> model = ask_thread_model();
  if (!model.ok()) return std::move(model).error();
  thread_model_ = model.value();
  return {};
}

Result<void> ScriptLayer::get_ready() { return start_call("get_ready"); }

Result<void> ScriptLayer::after_fork() { return start_call("after_fork"); }

void ScriptLayer::unload() const {
  if (folder_made_.ok()) (void)ScriptMethods(runner_).optional("unload", {});
}

std::string ScriptLayer::dump() const {
  std::string text = fmt::format("max_known_status={}\n", ScriptRunner::kKnownStatusMax);
  Result<std::optional<std::string>> printed = ScriptMethods(runner_).text("dump_plugin", {});
  if (printed.ok()) return text + printed.value().value_or("");
  log().error(name_, "{}", printed.error().message());
  return text;
}

Task<void> ScriptLayer::take_turn(Context& context) {
  if (thread_model() != ThreadModel::serialize_connections) return Result<void>();
  return queues_.turn.take(context);
}

Task<void> ScriptLayer::preconnect(Context& context) {
  co_await take_turn(context);
  ScriptConnection connection(runner_, queues_, thread_model(), context, name_);
  const bool read_only = context.read_only;
  co_await connection.run([read_only](const ScriptMethods& methods) -> Result<void> {
    Result<bool> called = methods.optional("preconnect", {read_only ? "true" : "false"});
    if (!called.ok()) return std::move(called).error();
    return {};
  });
}

Task<std::vector<ExportEntry>> ScriptLayer::list_exports(Context& context) {
  co_await take_turn(context);
  ScriptConnection connection(runner_, queues_, thread_model(), context, name_);
  co_return co_await connection.run([&context](const ScriptMethods& methods) {
    return methods.list_exports(context.read_only, context.tls);
  });
}

Task<std::string> ScriptLayer::default_export(Context& context) {
  co_await take_turn(context);
  ScriptConnection connection(runner_, queues_, thread_model(), context, name_);
  co_return co_await connection.run([&context](const ScriptMethods& methods) {
    return methods.default_export(context.read_only, context.tls);
  });
}

Task<DevicePtr> ScriptLayer::open(Context& context) {
  co_await take_turn(context);
  auto connection =
      std::make_unique<ScriptConnection>(runner_, queues_, thread_model(), context, name_);
  ScriptHandle opened = co_await connection->run([this, &context](const ScriptMethods& methods) {
    return open_script(methods, *this, context, thread_model());
  });
  co_return std::make_unique<ScriptDevice>(std::move(connection), std::move(opened));
}

}  // namespace nbdkit
