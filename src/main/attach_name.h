// SPDX-License-Identifier: BSD-3-Clause
// nbdkit-attach --name: one attachment of a name, however often it is asked for.
#pragma once

#include <optional>
#include <string>

#include "attach/options.h"
#include "attach/run_folder.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace nbdkit {

// While a process has it, no other looks for or makes the attachment of that name.
class NameTurn {
 public:
  // Of no name.
  NameTurn() = default;
  NameTurn(NameTurn&&) = default;
  NameTurn& operator=(NameTurn&&) = delete;
  ~NameTurn() { end(); }

  // Blocks. For an empty name too: then there is nothing to wait for.
  static Result<NameTurn> wait(const std::string& name);

  // May be called again, and in a forked process for both.
  void end();

 private:
  NameTurn(std::string name, RunFolder folder, UniqueFd turn)
      : name_(std::move(name)), folder_(std::move(folder)), turn_(std::move(turn)) {}

  std::string name_;
  std::optional<RunFolder> folder_;
  UniqueFd turn_;
};

// The node of the attachment that has the name of `wanted`; empty when there is none. Errors: busy
// when that was made of other arguments, or does not serve. Blocks.
Result<std::string> find_named(const AttachOptions& wanted);

}  // namespace nbdkit
