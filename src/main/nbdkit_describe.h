// SPDX-License-Identifier: BSD-3-Clause
// What the program says of itself and of the modules it loaded. Scripts read all of it.
#pragma once

#include <string>
#include <string_view>

#include "block/layer_stack.h"
#include "main/nbdkit_modules.h"

namespace nbdkit {

// "nbdkit X.Y.Z (nbdkit-attach A.B.C)": the first is the nbdkit that this one is compatible with.
std::string version_line();

// The end of --help and of --version: every layer, the outermost first.
std::string layers_help(const LayerStack& stack);
std::string layers_versions(const LayerStack& stack);

// Lines key=value.
std::string config_dump(const Folders& folders);
std::string plugin_dump(const LayerStack& stack);

// How many calls the layers take at a time, in nbdkit's words.
std::string_view thread_model(const LayerStack& stack);

}  // namespace nbdkit
