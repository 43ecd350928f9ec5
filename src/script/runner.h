// SPDX-License-Identifier: BSD-3-Clause
// ScriptRunner: runs a script's methods and understands how they end.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "block/layer.h"
#include "script/script.h"

namespace nbdkit {

// How a method ended that has not failed: exit status 0, 3 or 2 and what means the same.
enum class ScriptAnswer { yes, no, missing };

struct ScriptCall {
  std::string_view method;
  std::vector<std::string> arguments;
  std::span<const std::byte> input;
  // When not empty: exactly so many bytes have to be printed.
  std::span<std::byte> output;
  ConnectionControl* control = nullptr;  // of the connection, when there is one
};

struct ScriptOutcome {
  ScriptAnswer answer;
  std::string text;  // what it printed, unless that went to `output`
};

// Several threads.
class ScriptRunner {
 public:
  static constexpr int kKnownStatusMax = 8;

  // All that is passed outlives it. `trace`: not 0 tells the operator of every call, and of what
  // scripts print on stderr.
  ScriptRunner(const Script& script, std::string_view name, const int& trace)
      : script_(script), name_(name), trace_(trace) {}

  // Before the first call: the variables of the server, and $tmpdir.
  void prepare(Environment& environment, const std::string& folder);

  // Blocks until it has ended. An Error says which script failed, and why.
  Result<ScriptOutcome> call(const ScriptCall& call) const;

 private:
  struct Status;

  Result<ScriptOutcome> judge(const ScriptCall& call, int status, std::string_view errors) const;
  Error failed(std::string_view method, std::string_view why) const;
  void trace(const ScriptCall& call, std::string_view event) const;

  const Script& script_;
  const std::string_view name_;
  const int& trace_;
  Environment* environment_ = nullptr;
  std::vector<std::string> variables_;
};

}  // namespace nbdkit
