// SPDX-License-Identifier: BSD-3-Clause
// eval: a plugin whose methods are pieces of shell script on the command line.

#include <fmt/format.h>

#include <map>
#include <utility>

#include "block/native_module.h"
#include "script/script_layer.h"

// -D eval.script=N
extern "C" [[gnu::visibility("default")]] int eval_debug_script;
int eval_debug_script = 0;

namespace nbdkit {
namespace {

constexpr std::string_view kMissing = "missing";

// All methods that can be parameters.
constexpr std::string_view kMethods[] = {"after_fork",     "block_size",    "cache",
                                         "can_cache",      "can_extents",   "can_fast_zero",
                                         "can_flush",      "can_fua",       "can_multi_conn",
                                         "can_trim",       "can_write",     "can_zero",
                                         "close",          "config",        "config_complete",
                                         "default_export", "dump_plugin",   "export_description",
                                         "extents",        "flush",         "get_ready",
                                         "get_size",       "is_rotational", "list_exports",
                                         kMissing,         "open",          "pread",
                                         "preconnect",     "pwrite",        "thread_model",
                                         "trim",           "unload",        "zero"};

std::string question_of(std::string_view method) {
  return method == "pwrite" ? "can_write" : fmt::format("can_{}", method);
}

class EvalLayer final : public ScriptLayer {
 public:
  EvalLayer() : ScriptLayer("eval", eval_debug_script) {}
  ~EvalLayer() override { unload(); }

  Result<bool> configure(std::string_view key, std::string_view value) override;
  std::string_view long_name() const override { return "nbdkit eval plugin"; }

  std::vector<std::string> command(std::string_view method) const override;
  std::string_view place(std::string_view method) const override {
    return scripts_.contains(method) ? method : kMissing;
  }
  bool can_without_saying(std::string_view method) const override {
    return scripts_.contains(method) && !scripts_.contains(question_of(method));
  }

 protected:
  void declare(Params& params) override;

 private:
  std::map<std::string, std::string, std::less<>> scripts_;
};

void EvalLayer::declare(Params& params) {
  ScriptLayer::declare(params);
  for (std::string_view method : kMethods) {
    params.add(method, "SCRIPT",
               [this, method](std::string_view script) -> Result<void> {
                 scripts_[std::string(method)] = script;
                 return {};
               },
               {.help = method == kMissing ? "run in place of any method that is not given"
                                           : "shell script of this method"});
  }
}

// What is no method's name is for the script of the method config.
Result<bool> EvalLayer::configure(std::string_view key, std::string_view value) {
  NBDKIT_TRY(usable());
  Result<bool> taken = ScriptLayer::configure(key, value);
  if (!taken.ok() || taken.value()) return taken;
  NBDKIT_TRY(tell_parameter(key, value));
  return true;
}

std::vector<std::string> EvalLayer::command(std::string_view method) const {
  auto script = scripts_.find(method);
  // A method that is there answers the question whether it can be used, so `missing` is not asked.
  for (std::string_view one : {"pwrite", "flush", "trim", "zero", "extents", "cache"}) {
    if (method == question_of(one) && can_without_saying(one)) return {};
  }
  if (script == scripts_.end()) script = scripts_.find(kMissing);
  if (script == scripts_.end()) return {};
  const std::string name(method);
  return {"/bin/sh", "-c", script->second, name, name};
}

}  // namespace
}  // namespace nbdkit

NBDKIT_NATIVE_PLUGIN("eval", ::nbdkit::EvalLayer)
