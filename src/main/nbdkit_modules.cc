// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_modules.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <memory>
#include <utility>
#include <vector>

#include "base/log_topics.h"
#include "base/secret.h"
#include "block/native_module.h"
#include "plugin_host/c_plugin.h"

namespace nbdkit {
namespace {

std::string parent(const std::string& path) {
  std::size_t slash = path.rfind('/');
  return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

bool is_short_name(std::string_view name) {
  return name.find_first_of("./") == std::string_view::npos;
}

Result<std::string> find_module(std::string_view kind, const std::string& name,
                                const std::vector<std::string>& folders) {
  if (name.empty()) {
    return Error(std::errc::invalid_argument, fmt::format("the name of the {} is empty", kind));
  }
  // dlopen() would search the library path for a name without a slash.
  if (!is_short_name(name)) return name.find('/') == std::string::npos ? "./" + name : name;
  std::string searched;
  for (const std::string& folder : folders) {
    if (folder.empty()) continue;
    std::string path = fmt::format("{}/nbdkit-{}-{}.so", folder, name, kind);
    if (::access(path.c_str(), F_OK) == 0) return path;
    searched += (searched.empty() ? "" : " or ") + folder;
  }
  return Error(std::errc::no_such_file_or_directory,
               fmt::format("cannot open {} '{}': there is no nbdkit-{}-{}.so in {}", kind, name,
                           name, kind, searched));
}

Result<std::string> real_path(const std::string& path) {
  char resolved[PATH_MAX];
  if (::realpath(path.c_str(), resolved) == nullptr) return os_error(path);
  return std::string(resolved);
}

// Loads the modules of one command line and applies its -D.
class Loader {
 public:
  Loader(const Options& options, LayerStack& stack, PluginHost& host)
      : options_(options), stack_(stack), host_(host), used_(options.debug_flags.size(), false) {}

  Result<void> load(ModuleKind kind, const std::string& name,
                    const std::vector<std::string>& folders);
  // -D nbdkit.FLAG=N is about the program itself.
  void apply_to_server() { apply_debug_flags(RTLD_DEFAULT); }
  void warn_about_debug_flags() const;

 private:
  Result<void> add(ModuleKind kind, const std::string& path);
  Result<void> add_c_plugin(const std::string& path);
  void apply_debug_flags(void* library);

  const Options& options_;
  LayerStack& stack_;
  PluginHost& host_;
  Log& log_ = host_.log();
  std::vector<bool> used_;  // of options_.debug_flags
};

void Loader::apply_debug_flags(void* library) {
  for (std::size_t i = 0; i < options_.debug_flags.size(); ++i) {
    const DebugFlag& flag = options_.debug_flags[i];
    if (set_debug_variable(library, flag.name, flag.flag, flag.value)) used_[i] = true;
  }
}

Result<void> Loader::add_c_plugin(const std::string& path) {
  Result<std::unique_ptr<CPlugin>> loaded = load_c_plugin(host_, path);
  if (!loaded.ok()) return std::move(loaded).error();
  loaded.value()->set_calls_max(options_.threads);
  if (options_.survives) loaded.value()->set_survives(*options_.survives);
  std::string name(loaded.value()->name());
  stack_.add(std::move(name), path, std::move(loaded).value());
  return {};
}

Result<void> Loader::add(ModuleKind kind, const std::string& path) {
  Result<LoadedModule> loaded = load_native_module(path);
  if (!loaded.ok()) {
    if (loaded.error().code != std::errc::not_supported) return std::move(loaded).error();
    if (kind == ModuleKind::plugin) return add_c_plugin(path);
    return Error(std::errc::not_supported,
                 fmt::format("{}: not a filter of this nbdkit; filters written in C for another "
                             "nbdkit cannot be loaded",
                             path));
  }
  const NativeModule& module = *loaded.value().module;
  if (module.kind != kind) {
    return Error(std::errc::invalid_argument,
                 kind == ModuleKind::plugin
                     ? fmt::format("{}: this is a filter (use it with --filter)", path)
                     : fmt::format("{}: this is a plugin, not a filter", path));
  }
  if (kind == ModuleKind::plugin) {
    stack_.add(module.name, path, std::move(loaded.value().layer));
  } else {
    auto* filter = static_cast<FilterLayer*>(loaded.value().layer.release());
    stack_.add_filter(module.name, path, std::unique_ptr<FilterLayer>(filter));
  }
  return {};
}

Result<void> Loader::load(ModuleKind kind, const std::string& name,
                          const std::vector<std::string>& folders) {
  std::string_view word = kind == ModuleKind::plugin ? "plugin" : "filter";
  Result<std::string> found = find_module(word, name, folders);
  if (!found.ok()) return std::move(found).error();
  log_.debug("", "registering {} {}", word, found.value());
  // Before anything of it runs, which the flags may be about. Never closed: code of the module may
  // still run in destructors of its threads.
  void* library = ::dlopen(found.value().c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return Error(std::errc::no_such_file_or_directory,
                 fmt::format("cannot open {} '{}': {}", word, name, ::dlerror()));
  }
  apply_debug_flags(library);
  Result<std::string> path = real_path(found.value());
  if (!path.ok()) return std::move(path).error();
  NBDKIT_TRY(add(kind, path.value()));
  const std::string& own_name = stack_.entries().back().name;
  log_.debug("", "registered {} {} (name {})", word, path.value(), own_name);
  if (traces_control_path(log_)) log_.debug("", "{}: load", own_name);
  return {};
}

void Loader::warn_about_debug_flags() const {
  for (std::size_t i = 0; i < used_.size(); ++i) {
    if (used_[i]) continue;
    const DebugFlag& flag = options_.debug_flags[i];
    bool named =
        flag.name == "nbdkit" || std::any_of(stack_.entries().begin(), stack_.entries().end(),
                                             [&](auto& entry) { return entry.name == flag.name; });
    if (named) {
      log_.warning("", "-D {}.{}: {} does not contain a global variable called {}", flag.name,
                   flag.flag, flag.name, flag.symbol());
    } else {
      log_.warning("", "debug flag -D {}.{} was not used", flag.name, flag.flag);
    }
  }
}

}  // namespace

Result<Folders> Folders::find() {
  char path[PATH_MAX];
  ssize_t length = ::readlink("/proc/self/exe", path, sizeof path);
  if (length < 0) return os_error("/proc/self/exe");
  Folders folders;
  folders.program.assign(path, static_cast<std::size_t>(length));
  folders.prefix = parent(parent(folders.program));
  folders.plugins = folders.prefix + "/lib/nbdkit/plugins";
  folders.filters = folders.prefix + "/lib/nbdkit/filters";
  folders.foreign_plugins = NBDKIT_FOREIGN_PLUGIN_DIR;
  return folders;
}

Result<void> become_script(const Options& options, const Folders& folders, char** argv) {
  if (options.plugin.empty() || options.plugin.find_first_of("./") != std::string::npos) return {};
  for (const std::string& folder : {folders.plugins, folders.foreign_plugins}) {
    const std::string path = fmt::format("{}/nbdkit-{}-plugin", folder, options.plugin);
    struct stat status;
    bool is_file = ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
    if (!is_file || ::access(path.c_str(), X_OK) != 0) continue;
    std::vector<char*> arguments{const_cast<char*>(options.plugin.c_str())};
    for (std::size_t i = 1; argv[i] != nullptr; ++i) {
      if (i != options.plugin_place) arguments.push_back(argv[i]);
    }
    arguments.push_back(nullptr);
    ::execv(path.c_str(), arguments.data());
    return os_error(path);
  }
  return {};
}

Result<void> load_stack(const Options& options, const Folders& folders, LayerStack& stack,
                        PluginHost& host) {
  Loader loader(options, stack, host);
  NBDKIT_TRY(
      loader.load(ModuleKind::plugin, options.plugin, {folders.plugins, folders.foreign_plugins}));
  for (auto filter = options.filters.rbegin(); filter != options.filters.rend(); ++filter) {
    NBDKIT_TRY(loader.load(ModuleKind::filter, *filter, {folders.filters}));
  }
  loader.apply_to_server();
  loader.warn_about_debug_flags();
  return {};
}

std::optional<std::size_t> find_key_end(std::string_view text) {
  std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) return std::nullopt;
  auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (!is_letter(text[0])) return std::nullopt;
  for (char c : text.substr(0, equals)) {
    bool fits = is_letter(c) || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    if (!fits) return std::nullopt;
  }
  return equals;
}

Result<void> configure_stack(const Options& options, LayerStack& stack, Log& log) {
  const std::string magic(stack.plugin().magic_key());
  const std::string& plugin = stack.entries().front().name;
  for (std::size_t i = 0; i < options.parameters.size(); ++i) {
    std::string_view text = options.parameters[i];
    std::string key, value(text);
    if (std::optional<std::size_t> end = find_key_end(text)) {
      key = text.substr(0, *end);
      value = text.substr(*end + 1);
    } else if (!magic.empty()) {
      key = magic;
    } else if (i == 0) {
      key = "script";
    } else {
      return Error(std::errc::invalid_argument,
                   fmt::format("{}: expecting KEY=VALUE on the command line but got '{}' (see "
                               "nbdkit --help {})",
                               plugin, text, options.plugin));
    }
    if (traces_control_path(log)) {
      const std::string shown = shown_parameter(key, value);
      log.debug("", "{}: config key={}, value={}", plugin, key, shown.substr(key.size() + 1));
    }
    NBDKIT_TRY(stack.configure(key, value));
  }
  return {};
}

}  // namespace nbdkit
