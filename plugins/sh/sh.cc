// SPDX-License-Identifier: BSD-3-Clause
// sh: a plugin that is one script, or any other program, started anew for each call.

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <sstream>
#include <utility>

#include "base/secret.h"
#include "base/unique_fd.h"
#include "block/native_module.h"
#include "script/script_layer.h"

// -D sh.script=N
extern "C" [[gnu::visibility("default")]] int sh_debug_script;
int sh_debug_script = 0;

namespace nbdkit {
namespace {

constexpr std::string_view kScriptKey = "script";
constexpr std::size_t kInlineMax = 64 * 1024 * 1024;

// Whether the line #! is this program's: the script is a program that serves a disk. To run it
// again for each call would never end.
bool names_server(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  if (!(file >> word) || !word.starts_with("#!")) return false;
  std::string line = word.substr(2);
  std::string rest;
  std::getline(file, rest);
  std::istringstream words(line + rest);
  while (words >> word) {
    if (word.substr(word.rfind('/') + 1) == "nbdkit") return true;
  }
  return false;
}

class ShLayer final : public ScriptLayer {
 public:
  ShLayer() : ScriptLayer("sh", sh_debug_script) {}
  ~ShLayer() override { unload(); }

  Result<bool> configure(std::string_view key, std::string_view value) override;
  Result<void> configured() override;
  std::string_view long_name() const override { return "nbdkit shell script plugin"; }

  std::vector<std::string> command(std::string_view method) const override {
    if (script_.empty()) return {};
    if (names_server_) return {"/bin/sh", script_, std::string(method)};
    return {script_, std::string(method)};
  }
  std::string_view place(std::string_view) const override { return script_; }
  bool can_without_saying(std::string_view) const override { return false; }

 protected:
  void declare(Params& params) override;

 private:
  Result<void> take_script(std::string_view value);
  Result<void> take_inline_script();

  std::string script_;
  bool names_server_ = false;
  std::string magic_key_;  // of the script
};

void ShLayer::declare(Params& params) {
  ScriptLayer::declare(params);
  params.add(kScriptKey, "PATH|-", [this](std::string_view value) { return take_script(value); },
             {.help = "the script, or - to read it from stdin (required)", .magic = true});
}

Result<void> ShLayer::take_script(std::string_view value) {
  NBDKIT_TRY(usable());
  if (value == "-") {
    NBDKIT_TRY(take_inline_script());
  } else {
    const std::string path(value);
    char resolved[PATH_MAX];
    if (::realpath(path.c_str(), resolved) == nullptr) return os_error(path);
    script_ = resolved;
  }
  names_server_ = names_server(script_);
  ScriptMethods methods(runner());
  Result<bool> loaded = methods.optional("load", {});
  if (!loaded.ok()) return std::move(loaded).error();
  Result<std::optional<std::string>> key = methods.text("magic_config_key", {});
  if (!key.ok()) return std::move(key).error();
  magic_key_ = without_newline(key.value().value_or(""));
  return {};
}

Result<void> ShLayer::take_inline_script() {
  if (environment().stdio_is_client) {
    return Error(std::errc::invalid_argument,
                 "script=-: with -s stdin is the client's: put the script into a file");
  }
  const std::string path = folder() + "/inline-script.sh";
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0500));
  if (!file) return os_error(path);
  std::array<char, 64 * 1024> piece;
  for (std::size_t size = 0;;) {
    ssize_t got = ::read(STDIN_FILENO, piece.data(), piece.size());
    if (got < 0) return os_error("reading the script from stdin");
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
    if (size > kInlineMax) {
      return Error(std::errc::file_too_large,
                   fmt::format("the script on stdin has more than {} bytes", kInlineMax));
    }
    if (::write(file.get(), piece.data(), static_cast<std::size_t>(got)) != got) {
      return os_error(path);
    }
  }
  script_ = path;
  return {};
}

Result<bool> ShLayer::configure(std::string_view key, std::string_view value) {
  if (script_.empty()) {
    if (key == kScriptKey) return ScriptLayer::configure(key, value);
    return Error(std::errc::invalid_argument,
                 fmt::format("{}: the first parameter must be script=/path/to/script",
                             shown_parameter(key, value)));
  }
  // A word without a key comes as ours: whose it is the script says.
  std::string_view theirs = key == kScriptKey ? std::string_view(magic_key_) : key;
  if (theirs.empty()) {
    return Error(std::errc::invalid_argument,
                 fmt::format("script={}: {}: there is a script already, and it takes no words "
                             "without a key (magic_config_key)",
                             value, script_));
  }
  NBDKIT_TRY(tell_parameter(theirs, value));
  return true;
}

Result<void> ShLayer::configured() {
  if (!script_.empty()) return ScriptLayer::configured();
  return Error(std::errc::invalid_argument,
               "script= is missing: say which script is the plugin, or - to read it from stdin");
}

}  // namespace
}  // namespace nbdkit

NBDKIT_NATIVE_PLUGIN("sh", ::nbdkit::ShLayer)
