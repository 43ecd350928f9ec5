// SPDX-License-Identifier: BSD-3-Clause
// Modules: finds and loads the plugin and the filters that the command line names, and gives them
// their parameters.
#pragma once

#include <string>
#include <string_view>

#include "block/layer_stack.h"
#include "main/nbdkit_options.h"
#include "plugin_host/plugin_host.h"

namespace nbdkit {

// Where this program and its modules are: found from the program itself, so that a build tree, an
// install tree and a moved one work alike.
struct Folders {
  std::string program;  // the file itself
  std::string prefix;
  std::string plugins;
  std::string filters;
  std::string foreign_plugins;  // of another nbdkit on this system: for plugins only

  static Result<Folders> find();
};

// Some plugins are scripts: an executable file nbdkit-NAME-plugin. When the plugin is one, this
// process becomes it, with the name of the plugin and all arguments but that; it begins with a line
// like "#!/usr/sbin/nbdkit perl" as a rule. Returns when it is none, or with the reason.
Result<void> become_script(const Options& options, const Folders& folders, char** argv);

// Loads the plugin, then the filters from the innermost to the outermost.
Result<void> load_stack(const Options& options, const Folders& folders, LayerStack& stack,
                        PluginHost& host);

// Gives the layers the parameters of the command line: KEY=VALUE, or a bare word for the plugin's
// magic key, or for "script" when it has none and the word comes first.
Result<void> configure_stack(const Options& options, LayerStack& stack, Log& log);

// Whether `text` is KEY=VALUE; if so, where the '=' is.
std::optional<std::size_t> find_key_end(std::string_view text);

}  // namespace nbdkit
