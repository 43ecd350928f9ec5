// SPDX-License-Identifier: BSD-3-Clause
// ScriptLayer: what the plugins have in common whose methods are scripts.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "block/layer.h"
#include "script/runner.h"
#include "script/script.h"
#include "script/script_connection.h"
#include "script/temporary_folder.h"

namespace nbdkit {

class ScriptLayer : public Layer, public Script {
 public:
  // `name` of the plugin, and its -D NAME.script=N.
  ScriptLayer(std::string_view name, const int& trace) : name_(name), runner_(*this, name, trace) {}

  Result<void> configured() override;
  Result<void> get_ready() override;
  Result<void> after_fork() override;
  Contract contract() const override { return {.survives = Survives::nothing}; }
  // Asks the script before configured().
  ThreadModel thread_model() const override;
  std::string dump() const override;

  Task<void> preconnect(Context& context) override;
  Task<std::vector<ExportEntry>> list_exports(Context& context) override;
  Task<std::string> default_export(Context& context) override;
  Task<DevicePtr> open(Context& context) override;

 protected:
  // What is in the way of running scripts, before any is run.
  Result<void> usable() const;
  const ScriptRunner& runner() const { return runner_; }
  const std::string& folder() const { return folder_.path(); }
  // The method config, for a parameter that is the script's.
  Result<void> tell_parameter(std::string_view key, std::string_view value) const;
  // The last call; for destructors, while command() can still be asked.
  void unload() const;
  void declare(Params& params) override;

 private:
  Result<void> start_call(std::string_view method) const;
  Result<ThreadModel> ask_thread_model() const;
  Task<void> take_turn(Context& context);

  const std::string_view name_;
  TemporaryFolder folder_;
  Result<void> folder_made_;
  ScriptRunner runner_;
  ScriptQueues queues_;
  std::optional<ThreadModel> thread_model_;
};

}  // namespace nbdkit
