// SPDX-License-Identifier: BSD-3-Clause
// CPlugin: a plugin with the nbdkit C interface (versions 1 and 2) as a Layer.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "async/call_queue.h"
#include "block/connection_turn.h"
#include "block/layer.h"
#include "plugin_host/c_functions.h"
#include "plugin_host/c_module.h"
#include "plugin_host/inline_rule.h"
#include "plugin_host/plugin_host.h"
#include "plugin_host/zero_pages.h"

namespace nbdkit {

// The plugin's functions run on the worker pool, never on a loop. How many at a time is what its
// thread model allows; the others wait in a queue. Messages of the plugin go to the host's log, and
// while the program starts the last one is the text of the Error instead.
class CPlugin final : public Layer {
 public:
  static constexpr std::size_t kCallsMaxDefault = 16;

  // `host` outlives it. `zeroes`: CDevice::kDataMax of them.
  CPlugin(PluginHost& host, CModule module, ZeroPages zeroes);
  ~CPlugin() override;  // The plugin's unload().

  // All of these before the Layer's attach(), which calls the plugin's load().

  // -D NAME.FLAG=VALUE, without the NAME; false when there is no such flag.
  bool set_debug_flag(std::string_view flag, int value) {
    return module_.set_debug_flag(flag, value);
  }
  // --survives: what the user knows of this plugin. Nothing unless told.
  void set_survives(Survives survives) { survives_ = survives; }
  // -t: calls under way for one connection when the thread model is parallel. 0 is the default.
  void set_calls_max(std::size_t calls) { calls_max_ = calls == 0 ? kCallsMaxDefault : calls; }

  // What is known of the time that its calls take, by all connections.
  InlineRule& reads() { return reads_; }
  InlineRule& writes() { return writes_; }

  // The plugin's `name`, which need not be the word on the command line.
  std::string_view name() const { return module_.table().name; }
  const std::string& path() const { return module_.path(); }
  // The compiled one until configured().
  ThreadModel thread_model() const override { return thread_model_; }

  Result<bool> configure(std::string_view key, std::string_view value) override;
  Result<void> configured() override;
  Result<void> get_ready() override;
  Result<void> after_fork() override;
  void cleanup() override;
  Contract contract() const override { return {.survives = survives_}; }

  Task<void> preconnect(Context& context) override;
  Task<std::vector<ExportEntry>> list_exports(Context& context) override;
  Task<std::string> default_export(Context& context) override;
  Task<DevicePtr> open(Context& context) override;

  std::string_view long_name() const override;
  std::string_view version() const override;
  std::string_view description() const override;
  std::string config_help() const override;
  std::string_view magic_key() const override;
  // What --dump-plugin prints after the lines path=, name= and version=: api_version= to has_...=1,
  // and then what the plugin's dump_plugin() writes to stdout. On the main thread, before
  // get_ready(), with no other thread about.
  std::string dump() const override;

 protected:
  void declare(Params& params) override;

 private:
  friend class CConnection;

  template <typename... Parameters, typename... Args>
  Result<void> start_call(std::string_view what, int (*callback)(Parameters...), Args... args);
  Task<void> take_turn(Context& context);
  Result<ThreadModel> choose_thread_model() const;
  std::string capture_dump_plugin() const;
  bool one_call_in_all() const { return thread_model_ <= ThreadModel::serialize_all_requests; }

  PluginHost& host_;
  const CModule module_;
  const CFunctions functions_;
  const ZeroPages zeroes_;
  Survives survives_ = Survives::nothing;
  std::size_t calls_max_ = kCallsMaxDefault;
  ThreadModel thread_model_;
  bool loaded_ = false;
  bool forked_ = false;
  CallQueue all_calls_{1};  // With one_call_in_all().
  InlineRule reads_;
  InlineRule writes_;
  ConnectionTurn turn_;  // With serialize_connections.
};

// The Error's detail is what the user is told: it has dlopen's words when the file cannot be
// loaded. Comes after load_native_module() has answered not_supported. One plugin in C a process.
Result<std::unique_ptr<CPlugin>> load_c_plugin(PluginHost& host, const std::string& path);

}  // namespace nbdkit
