// SPDX-License-Identifier: BSD-3-Clause
#include "plugin_host/c_plugin.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/secret.h"
#include "plugin_host/c_connection.h"
#include "plugin_host/c_device.h"
#include "plugin_host/c_lists.h"
#include "plugin_host/call_context.h"
#include "plugin_host/opening.h"

namespace nbdkit {
namespace {

int flag(bool set) { return set ? 1 : 0; }

std::string_view or_empty(const char* text) { return text != nullptr ? text : ""; }

Result<std::string> ask_default_export(CallContext& call, const nbdkit_plugin& table,
                                       const Context& context) {
  if (table.default_export == nullptr) return std::string();
  const char* name = call.call(table.default_export, flag(context.read_only), flag(context.tls));
  if (name == nullptr) return call.failure_with_text("default_export");
  if (std::string_view(name).size() > Layer::kNameMax) {
    return Error(std::errc::invalid_argument, "the name of the default export is too long");
  }
  return std::string(name);
}

Result<std::vector<ExportEntry>> ask_exports(CallContext& call, const nbdkit_plugin& table,
                                             const Context& context) {
  nbdkit_exports list;
  int result = call.call(table.list_exports, flag(context.read_only), flag(context.tls), &list);
  if (result == -1) return call.failure_with_text("list_exports");
  std::vector<ExportEntry> exports;
  for (nbdkit_exports::Entry& entry : list.entries) {
    if (entry.is_default) {
      Result<std::string> name = ask_default_export(call, table, context);
      if (!name.ok()) {  // The plugin has none just now.
        call.report(std::string(name.error().detail()));
        continue;
      }
      entry.name = std::move(name).value();
    }
    exports.push_back({std::move(entry.name), std::move(entry.description).value_or("")});
  }
  return exports;
}

}  // namespace

CConnection::CConnection(CPlugin& plugin, Context& context)
    : plugin_(plugin),
      session_(plugin.host_, context, plugin.name()),
      errno_is_preserved_(plugin.functions_.errno_is_preserved()),
      own_calls_(plugin.thread_model() == ThreadModel::parallel ? plugin.calls_max_ : 1),
      queue_(plugin.one_call_in_all() ? plugin.all_calls_ : own_calls_) {}

CConnection::~CConnection() {
  if (plugin_.thread_model() == ThreadModel::serialize_connections) plugin_.turn_.give_back();
}

Result<std::unique_ptr<CPlugin>> load_c_plugin(PluginHost& host, const std::string& path) {
  Result<CModule> module = CModule::open(path);
  if (!module.ok()) return std::move(module).error();
  Result<ZeroPages> zeroes = ZeroPages::map(CDevice::kDataMax);
  if (!zeroes.ok()) return std::move(zeroes).error();
  return std::make_unique<CPlugin>(host, std::move(module).value(), std::move(zeroes).value());
}

CPlugin::CPlugin(PluginHost& host, CModule module, ZeroPages zeroes)
    : host_(host),
      module_(std::move(module)),
      functions_(module_.table()),
      zeroes_(std::move(zeroes)),
      thread_model_(module_.thread_model()) {}

CPlugin::~CPlugin() {
  if (!loaded_ || module_.table().unload == nullptr) return;
  CallContext call(host_, nullptr, Messages::log, false);
  call.call(module_.table().unload);
}

void CPlugin::declare(Params&) {
  loaded_ = true;
  if (module_.table().load == nullptr) return;
  CallContext call(host_, nullptr, Messages::log, false);
  call.call(module_.table().load);
}

// A call while the program starts.
template <typename... Parameters, typename... Args>
Result<void> CPlugin::start_call(std::string_view what, int (*callback)(Parameters...),
                                 Args... args) {
  if (callback == nullptr) return {};
  CallContext call(host_, nullptr, Messages::hold, functions_.errno_is_preserved());
  if (call.call(callback, args...) != -1) return {};
  return call.failure_with_text(what);
}

Result<bool> CPlugin::configure(std::string_view key, std::string_view value) {
  if (module_.table().config == nullptr) {
    return Error(std::errc::invalid_argument,
                 fmt::format("{}: this plugin has no parameters", shown_parameter(key, value)));
  }
  // Plugins keep both pointers.
  const char* kept_key = host_.interns().keep(key);
  const char* kept_value = host_.interns().keep(value);
  NBDKIT_TRY(start_call("config", module_.table().config, kept_key, kept_value));
  return true;
}

Result<void> CPlugin::configured() {
  NBDKIT_TRY(start_call("config_complete", module_.table().config_complete));
  Result<ThreadModel> model = choose_thread_model();
  if (!model.ok()) return std::move(model).error();
  thread_model_ = model.value();
  return {};
}

Result<ThreadModel> CPlugin::choose_thread_model() const {
  if (module_.table().thread_model == nullptr) return module_.thread_model();
  CallContext call(host_, nullptr, Messages::hold, functions_.errno_is_preserved());
  int model = call.call(module_.table().thread_model);
  if (model == -1) return call.failure_with_text("thread_model");
  if (model < 0 || model > NBDKIT_THREAD_MODEL_PARALLEL) {
    return Error(std::errc::invalid_argument,
                 fmt::format("the plugin chose an unknown thread model ({})", model));
  }
  return std::min(module_.thread_model(), static_cast<ThreadModel>(model));
}

Result<void> CPlugin::get_ready() {
  Result<void> ready = start_call("get_ready", module_.table().get_ready);
  host_.started();
  return ready;
}

Result<void> CPlugin::after_fork() {
  forked_ = true;
  return start_call("after_fork", module_.table().after_fork);
}

void CPlugin::cleanup() {
  if (!forked_ || module_.table().cleanup == nullptr) return;
  CallContext call(host_, nullptr, Messages::log, false);
  call.call(module_.table().cleanup);
}

Task<void> CPlugin::take_turn(Context& context) {
  if (thread_model_ != ThreadModel::serialize_connections) return Result<void>();
  return turn_.take(context);
}

Task<void> CPlugin::preconnect(Context& context) {
  if (module_.table().preconnect == nullptr) co_return;
  co_await take_turn(context);
  CConnection connection(*this, context);
  int read_only = flag(context.read_only);
  co_await connection.run(Messages::hold, [this, read_only](CallContext& call) -> Result<void> {
    if (call.call(module_.table().preconnect, read_only) != -1) return {};
    return call.failure_with_text("preconnect");
  });
}

Task<std::vector<ExportEntry>> CPlugin::list_exports(Context& context) {
  if (module_.table().list_exports == nullptr) {
    co_return co_await Layer::list_exports(context);
  }
  co_await take_turn(context);
  CConnection connection(*this, context);
  co_return co_await connection.run(Messages::hold, [this, &context](CallContext& call) {
    return ask_exports(call, module_.table(), context);
  });
}

Task<std::string> CPlugin::default_export(Context& context) {
  if (module_.table().default_export == nullptr) co_return std::string();
  co_await take_turn(context);
  CConnection connection(*this, context);
  co_return co_await connection.run(Messages::hold, [this, &context](CallContext& call) {
    return ask_default_export(call, module_.table(), context);
  });
}

Task<DevicePtr> CPlugin::open(Context& context) {
  co_await take_turn(context);
  auto connection = std::make_unique<CConnection>(*this, context);
  bool read_only = context.read_only;
  Opened opened = co_await connection->run(Messages::hold, [this, read_only](CallContext& call) {
    return open_handle(call, functions_, thread_model_, read_only);
  });
  co_return std::make_unique<CDevice>(std::move(connection), functions_, zeroes_.bytes(),
                                      std::move(opened));
}

std::string_view CPlugin::long_name() const { return or_empty(module_.table().longname); }
std::string_view CPlugin::version() const { return or_empty(module_.table().version); }
std::string_view CPlugin::description() const { return or_empty(module_.table().description); }
std::string CPlugin::config_help() const {
  return std::string(or_empty(module_.table().config_help));
}
std::string_view CPlugin::magic_key() const { return or_empty(module_.table().magic_config_key); }

}  // namespace nbdkit
