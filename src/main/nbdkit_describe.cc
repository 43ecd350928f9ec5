// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_describe.h"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <array>
#include <string_view>

#include "plugin_host/c_module.h"
#include "plugin_host/c_plugin.h"

namespace nbdkit {
namespace {

// Where nbdkit looks for the certificates of a server that runs as root.
constexpr std::string_view kRootCertificates = "/etc/pki/nbdkit";

std::string with_newline(std::string text) {
  if (!text.empty() && text.back() != '\n') text.push_back('\n');
  return text;
}

const CPlugin* as_c_plugin(const Layer& layer) { return dynamic_cast<const CPlugin*>(&layer); }

// Native layers are of this program's version.
std::string layer_version(const Layer& layer) {
  if (as_c_plugin(layer) != nullptr) return std::string(layer.version());
  return std::string(layer.version().empty() ? NBDKIT_VERSION : layer.version());
}

std::string layer_help(const LayerStack::Entry& entry, std::string_view kind) {
  const Layer& layer = *entry.layer;
  std::string text = fmt::format("\n{}: {}", kind, entry.name);
  if (!layer.long_name().empty()) text += fmt::format(" ({})", layer.long_name());
  text += fmt::format("\n({})\n", entry.path);
  text += with_newline(std::string(layer.description()));
  return text + with_newline(layer.config_help());
}

// What nbdkit tells of a plugin in C: which of its functions the plugin has. The interface of a
// native plugin always has all of them, and each connection says what the export can do.
std::string native_dump(const LayerStack::Entry& entry) {
  const Layer& layer = *entry.layer;
  std::string text = fmt::format(
      "version={}\napi_version=2\nstruct_size={}\nmax_thread_model=parallel\n"
      "thread_model={}\nerrno_is_preserved=1\n",
      layer_version(layer), sizeof(struct nbdkit_plugin), to_string(layer.thread_model()));
  if (!layer.magic_key().empty()) text += fmt::format("magic_config_key={}\n", layer.magic_key());
  if (!layer.long_name().empty()) text += "has_longname=1\n";
  if (!layer.description().empty()) text += "has_description=1\n";
  if (!layer.params().list().empty()) text += "has_config=1\nhas_config_complete=1\n";
  if (!layer.config_help().empty()) text += "has_config_help=1\n";
  constexpr std::array<std::string_view, 28> kAlways{
      "get_ready",  "after_fork",     "cleanup",
      "preconnect", "list_exports",   "default_export",
      "open",       "close",          "export_description",
      "get_size",   "block_size",     "can_write",
      "can_flush",  "is_rotational",  "can_trim",
      "can_zero",   "can_fast_zero",  "can_extents",
      "can_fua",    "can_multi_conn", "can_cache",
      "pread",      "pwrite",         "flush",
      "trim",       "zero",           "extents",
      "cache"};
  for (std::string_view function : kAlways) {
    text += fmt::format("has_{}=1\n", function);
  }
  return text;
}

}  // namespace

std::string version_line() {
  return fmt::format("nbdkit {} (nbdkit-attach {})", kInterfaceVersion, NBDKIT_VERSION);
}

std::string layers_help(const LayerStack& stack) {
  std::string text;
  const auto& entries = stack.entries();
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    text += layer_help(*entry, &*entry == &entries.front() ? "plugin" : "filter");
  }
  return text;
}

std::string layers_versions(const LayerStack& stack) {
  std::string text;
  const auto& entries = stack.entries();
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    std::string version = layer_version(*entry->layer);
    text += entry->name + (version.empty() ? "" : " " + version) + "\n";
  }
  return text;
}

std::string config_dump(const Folders& folders) {
  utsname system{};
  ::uname(&system);
  const std::string& prefix = folders.prefix;
  std::string text;
  auto add = [&text](std::string_view key, std::string_view value) {
    text += fmt::format("{}={}\n", key, value);
  };
  add("binary", folders.program);
  add("bindir", prefix + "/bin");
  add("exit_with_parent", "yes");
  add("filterdir", folders.filters);
  add("host_cpu", system.machine);
  add("host_os", "linux-gnu");
  add("libdir", prefix + "/lib");
  add("mandir", prefix + "/share/man");
  add("max_api_version", fmt::format("{}", 2));
  add("name", "nbdkit");
  add("plugindir", folders.plugins);
  add("root_tls_certificates_dir", kRootCertificates);
  add("run_default_socket", "Unix");
  add("sbindir", prefix + "/bin");
  add("selinux", "yes");
  add("soext", "so");
  add("sysconfdir", "/etc");
  add("timeout_option", "no");
  add("tls", "yes");
  add("version", kInterfaceVersion);
  add("version_extra", fmt::format("nbdkit-attach {}", NBDKIT_VERSION));
  add("version_major", fmt::format("{}", kInterfaceMajor));
  add("version_minor", fmt::format("{}", kInterfaceMinor));
  add("vsock_option", "no");
  add("zstd", "no");
  return text;
}

std::string plugin_dump(const LayerStack& stack) {
  const LayerStack::Entry& plugin = stack.entries().front();
  std::string text = fmt::format("path={}\nname={}\n", plugin.path, plugin.name);
  if (as_c_plugin(*plugin.layer) == nullptr) {
    text += native_dump(plugin);
  } else if (!plugin.layer->version().empty()) {
    text += fmt::format("version={}\n", plugin.layer->version());
  }
  for (const LayerStack::Entry& entry : stack.entries()) text += with_newline(entry.layer->dump());
  return text;
}

std::string_view thread_model(const LayerStack& stack) {
  return to_string(stack.plugin().thread_model());
}

}  // namespace nbdkit
