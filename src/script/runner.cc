// SPDX-License-Identifier: BSD-3-Clause
#include "script/runner.h"

#include <fmt/format.h>
#include <unistd.h>

#include <utility>

#include "script/answers.h"
#include "script/process.h"

namespace nbdkit {
namespace {

// What a script asks for by its exit status, besides saying how the method ended.
struct Meaning {
  enum class End { ok, failed, missing, no };
  End end;
  bool shut_down = false;
  bool disconnect = false;
  bool force = false;
};

Meaning meaning_of(int status) {
  using End = Meaning::End;
  switch (status) {
    case 0:
      return {.end = End::ok};
    case 2:
      return {.end = End::missing};
    case 3:
      return {.end = End::no};
    case 4:
      return {.end = End::ok, .shut_down = true};
    case 5:
      return {.end = End::failed, .shut_down = true};
    case 6:
      return {.end = End::failed, .disconnect = true, .force = true};
    case 7:
      return {.end = End::ok, .disconnect = true};
    case 8:
      return {.end = End::failed, .disconnect = true};
    default:
      return {.end = End::failed};
  }
}

}  // namespace

void ScriptRunner::prepare(Environment& environment, const std::string& folder) {
  constexpr std::string_view kFolder = "tmpdir=";
  environment_ = &environment;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!std::string_view(*variable).starts_with(kFolder)) variables_.emplace_back(*variable);
  }
  variables_.push_back(fmt::format("{}{}", kFolder, folder));
}

Error ScriptRunner::failed(std::string_view method, std::string_view why) const {
  return Error(std::errc::io_error, fmt::format("{}: {}", script_.place(method), why));
}

void ScriptRunner::trace(const ScriptCall& call, std::string_view event) const {
  if (trace_ == 0 && !environment_->log.verbose()) return;
  std::string text = fmt::format("{} {}", script_.place(call.method), call.method);
  for (const std::string& argument : call.arguments) text += ' ' + argument;
  environment_->log.write(LogLevel::debug, name_, fmt::format("{}: {}", event, text));
}

Result<ScriptOutcome> ScriptRunner::call(const ScriptCall& call) const {
  ProcessRun run;
  run.arguments = script_.command(call.method);
  if (run.arguments.empty()) return ScriptOutcome{ScriptAnswer::missing, {}};
  run.arguments.insert(run.arguments.end(), call.arguments.begin(), call.arguments.end());
  run.environment = variables_;
  run.input = call.input;
  run.output = call.output;
  trace(call, "calling");
  Result<ProcessEnd> ended = run_process(run);
  if (!ended.ok()) return failed(call.method, ended.error().message());
  ProcessEnd& end = ended.value();
  trace(call, end.signal != 0 ? fmt::format("signal {}", end.signal)
                              : fmt::format("status {}", end.status));
  if (trace_ != 0 && !end.errors.empty()) {
    environment_->log.write(LogLevel::debug, name_, without_newline(end.errors));
  }
  if (end.too_much && !call.output.empty()) {
    return failed(call.method, fmt::format("incorrect amount of data read: expecting {} bytes but "
                                           "the script printed more",
                                           call.output.size()));
  }
  if (end.too_much) {
    return failed(call.method,
                  fmt::format("the script printed more than {} bytes", ProcessRun::kTextMax));
  }
  if (end.signal != 0) {
    return failed(call.method, fmt::format("script terminated by signal {}", end.signal));
  }
  Result<ScriptOutcome> outcome = judge(call, end.status, end.errors);
  if (!outcome.ok() || outcome.value().answer != ScriptAnswer::yes) return outcome;
  // Data that nobody has read is not written, whatever the script says.
  if (end.input_refused) {
    return failed(call.method, fmt::format("the script ended well without reading all of the {} "
                                           "bytes on its stdin",
                                           call.input.size()));
  }
  if (end.received < call.output.size()) {
    return failed(call.method,
                  fmt::format("incorrect amount of data read: expecting {} bytes but received {} "
                              "bytes from the script",
                              call.output.size(), end.received));
  }
  outcome.value().text = std::move(end.text);
  return outcome;
}

Result<ScriptOutcome> ScriptRunner::judge(const ScriptCall& call, int status,
                                          std::string_view errors) const {
  const Meaning meaning = meaning_of(status);
  if (meaning.shut_down) environment_->shut_down();
  if (meaning.disconnect && call.control != nullptr) call.control->disconnect(meaning.force);
  switch (meaning.end) {
    case Meaning::End::ok:
      return ScriptOutcome{ScriptAnswer::yes, {}};
    case Meaning::End::missing:
      return ScriptOutcome{ScriptAnswer::missing, {}};
    case Meaning::End::no:
      return ScriptOutcome{ScriptAnswer::no, {}};
    case Meaning::End::failed:
      break;
  }
  Error error = parse_script_error(errors);
  std::string_view why = error.detail();
  if (errors.empty())
    why = "script exited with error, but did not print an error message on stderr";
  return Error(error.code,
               fmt::format("{}: {}", script_.place(call.method),
                           why.empty() ? Error(error.code, {}).message() : std::string(why)));
}

}  // namespace nbdkit
