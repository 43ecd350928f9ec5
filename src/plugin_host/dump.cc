// SPDX-License-Identifier: BSD-3-Clause
// What --dump-plugin tells about a plugin in C.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdio>

#include "base/unique_fd.h"
#include "plugin_host/c_plugin.h"
#include "plugin_host/call_context.h"

namespace nbdkit {
namespace {

struct Field {
  std::string_view name;
  bool present;
};

// In the order that tools know.
auto fields_of(const nbdkit_plugin& p) {
  auto has = [](std::string_view name, auto field) { return Field{name, field != nullptr}; };
  return std::array{
      has("longname", p.longname),
      has("description", p.description),
      has("load", p.load),
      has("unload", p.unload),
      has("dump_plugin", p.dump_plugin),
      has("config", p.config),
      has("config_complete", p.config_complete),
      has("config_help", p.config_help),
      has("thread_model", p.thread_model),
      has("get_ready", p.get_ready),
      has("after_fork", p.after_fork),
      has("cleanup", p.cleanup),
      has("preconnect", p.preconnect),
      has("list_exports", p.list_exports),
      has("default_export", p.default_export),
      has("open", p.open),
      has("close", p.close),
      has("export_description", p.export_description),
      has("get_size", p.get_size),
      has("block_size", p.block_size),
      has("can_write", p.can_write),
      has("can_flush", p.can_flush),
      has("is_rotational", p.is_rotational),
      has("can_trim", p.can_trim),
      has("can_zero", p.can_zero),
      has("can_fast_zero", p.can_fast_zero),
      has("can_extents", p.can_extents),
      has("can_fua", p.can_fua),
      has("can_multi_conn", p.can_multi_conn),
      has("can_cache", p.can_cache),
      has("pread", p.pread),
      has("pwrite", p.pwrite),
      has("flush", p.flush),
      has("trim", p.trim),
      has("zero", p.zero),
      has("extents", p.extents),
      has("cache", p.cache),
      has("_pread_v1", p._pread_v1),
      has("_pwrite_v1", p._pwrite_v1),
      has("_flush_v1", p._flush_v1),
      has("_trim_v1", p._trim_v1),
      has("_zero_v1", p._zero_v1),
  };
}

// Runs `print` with stdout going to a file in memory.
template <typename Print>
Result<std::string> capture_stdout(Print print) {
  UniqueFd file(::memfd_create("stdout", MFD_CLOEXEC));
  if (!file) return os_error("memfd_create");
  std::fflush(stdout);
  UniqueFd real(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
  if (!real) return os_error("stdout");
  ::dup2(file.get(), STDOUT_FILENO);
  print();
  std::fflush(stdout);
  ::dup2(real.get(), STDOUT_FILENO);
  std::string text;
  std::array<char, 4096> piece;
  ::lseek(file.get(), 0, SEEK_SET);
  for (;;) {
    ssize_t got = ::read(file.get(), piece.data(), piece.size());
    if (got <= 0) return text;
    text.append(piece.data(), static_cast<std::size_t>(got));
  }
}

}  // namespace

std::string CPlugin::dump() const {
  const nbdkit_plugin& table = module_.table();
  // --dump-plugin comes before config_complete, so nobody has asked the plugin yet.
  Result<ThreadModel> model = choose_thread_model();
  std::string text = fmt::format(
      "api_version={}\nstruct_size={}\nmax_thread_model={}\nthread_model={}\n"
      "errno_is_preserved={}\n",
      table._api_version, table._struct_size, to_string(module_.thread_model()),
      to_string(model.ok() ? model.value() : thread_model_),
      functions_.errno_is_preserved() ? 1 : 0);
  if (table.magic_config_key != nullptr) {
    text += fmt::format("magic_config_key={}\n", table.magic_config_key);
  }
  for (const Field& field : fields_of(table)) {
    if (field.present) text += fmt::format("has_{}=1\n", field.name);
  }
  return text + capture_dump_plugin();
}

std::string CPlugin::capture_dump_plugin() const {
  auto* dump_plugin = module_.table().dump_plugin;
  if (dump_plugin == nullptr) return {};
  CallContext call(host_, nullptr, Messages::log, functions_.errno_is_preserved());
  Result<std::string> text = capture_stdout([&] { call.call(dump_plugin); });
  if (text.ok()) return std::move(text).value();
  host_.log().error(name(), "dump_plugin: {}", text.error().message());
  return {};
}

}  // namespace nbdkit
