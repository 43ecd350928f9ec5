// SPDX-License-Identifier: BSD-3-Clause
// Script: which program answers which method of a plugin that is written as a script.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace nbdkit {

// Used by several threads at once when the program has started.
class Script {
 public:
  // The program and its first arguments, the method's name included; empty when it is known without
  // running anything that there is no such method.
  virtual std::vector<std::string> command(std::string_view method) const = 0;
  // What the operator knows it by, for messages.
  virtual std::string_view place(std::string_view method) const = 0;
  // Whether the method can be used when the script does not answer the question can_METHOD.
  virtual bool can_without_saying(std::string_view method) const = 0;

 protected:
  ~Script() = default;
};

}  // namespace nbdkit
