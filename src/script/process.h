// SPDX-License-Identifier: BSD-3-Clause
// run_process: runs a program to its end, gives it its input and takes what it prints.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace nbdkit {

struct ProcessRun {
  // What a program may print when `output` has no memory for it, and on stderr; of stderr the rest
  // is dropped.
  static constexpr std::size_t kTextMax = 64 * 1024 * 1024;
  static constexpr std::size_t kErrorsMax = 64 * 1024;

  std::vector<std::string> arguments;  // the path of the program first
  std::span<const std::string> environment;
  std::span<const std::byte> input;
  // When not empty: where stdout goes, which must fit.
  std::span<std::byte> output;
};

struct ProcessEnd {
  int status = 0;              // of exit(), or -1
  int signal = 0;              // which has ended it, or 0
  std::size_t received = 0;    // bytes from stdout that were taken
  bool too_much = false;       // there were more
  bool input_refused = false;  // it did not read all of its input
  std::string text;            // stdout, when there is no memory of the caller's for it
  std::string errors;          // stderr
};

// Blocks. The caller's process ignores SIGPIPE. An Error is why it could not be run. The program
// gets no blocked or ignored signals, and nothing of what the server may have been granted to serve
// a kernel. Besides 0 to 2 it has the descriptors that the server was given to pass on: a device's
// lock tells by them whether something of a dead server still runs. A file that is executable but
// no program goes to /bin/sh, as execvp(3) does it.
Result<ProcessEnd> run_process(const ProcessRun& run);

}  // namespace nbdkit
