// SPDX-License-Identifier: BSD-3-Clause
#include "plugin_host/c_module.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace nbdkit {
namespace {

constexpr int kApiVersionMax = 2;

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_plugin_name(std::string_view name) {
  return !name.empty() && name.front() != '-' && std::all_of(name.begin(), name.end(), [](char c) {
    return is_letter_or_digit(c) || c == '-';
  });
}

Error refused(const std::string& path, std::string_view why) {
  return Error(std::errc::invalid_argument, fmt::format("{}: {}", path, why));
}

// dlerror() begins with the path in most cases, and a line must not say it twice.
std::string load_error(const std::string& path) {
  std::string_view text = ::dlerror();
  if (text.starts_with(path + ": ")) text.remove_prefix(path.size() + 2);
  return fmt::format("cannot open plugin '{}': {}", path, text);
}

}  // namespace

static_assert(static_cast<int>(ThreadModel::serialize_connections) ==
              NBDKIT_THREAD_MODEL_SERIALIZE_CONNECTIONS);
static_assert(static_cast<int>(ThreadModel::serialize_all_requests) ==
              NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS);
static_assert(static_cast<int>(ThreadModel::serialize_requests) ==
              NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS);
static_assert(static_cast<int>(ThreadModel::parallel) == NBDKIT_THREAD_MODEL_PARALLEL);

Result<CModule> CModule::open(const std::string& path) {
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) return Error(std::errc::invalid_argument, load_error(path));
  auto* init = reinterpret_cast<nbdkit_plugin* (*)()>(::dlsym(library, "plugin_init"));
  if (init == nullptr) {
    bool filter = ::dlsym(library, "filter_init") != nullptr;
    return refused(path, filter ? "this is a filter in C, which only the nbdkit that it was built "
                                  "for can load; use the filter of the same name that comes with "
                                  "this program"
                                : "this is not an nbdkit plugin: it has no function plugin_init");
  }
  const nbdkit_plugin* own = init();
  if (own == nullptr) return refused(path, "plugin_init failed");
  CModule module(path, library);
  // Older plugins have a shorter struct, and newer ones more than is known here.
  std::memcpy(static_cast<void*>(&module.table_), own,
              std::min<std::size_t>(sizeof module.table_, own->_struct_size));
  module.table_._struct_size = own->_struct_size;
  NBDKIT_TRY(module.check());
  return module;
}

Result<void> CModule::check() const {
  if (table_._api_version < 0 || table_._api_version > kApiVersionMax) {
    return refused(path_, fmt::format("the plugin needs version {} of the plugin interface; this "
                                      "program has versions 1 and 2",
                                      table_._api_version));
  }
  if (table_.name == nullptr || !is_plugin_name(table_.name)) {
    return refused(path_, fmt::format("the plugin's name '{}' is not made of letters, digits and "
                                      "'-' only, beginning with a letter or digit",
                                      table_.name == nullptr ? "" : table_.name));
  }
  if (table_.open == nullptr) return refused(path_, "the plugin must have an open function");
  if (table_.get_size == nullptr) return refused(path_, "the plugin must have a get_size function");
  if (table_.pread == nullptr && table_._pread_v1 == nullptr) {
    return refused(path_, "the plugin must have a pread function");
  }
  if (table_._thread_model < 0 || table_._thread_model > NBDKIT_THREAD_MODEL_PARALLEL) {
    return refused(
        path_, fmt::format("the plugin has an unknown thread model ({})", table_._thread_model));
  }
  return {};
}

bool set_debug_variable(void* library, std::string_view name, std::string_view flag, int value) {
  std::string symbol = fmt::format("{}_debug_{}", name, flag);
  std::replace_if(
      symbol.begin(), symbol.end(), [](char c) { return c == '.' || c == '-'; }, '_');
  auto* variable = static_cast<int*>(::dlsym(library, symbol.c_str()));
  if (variable == nullptr) return false;
  *variable = value;
  return true;
}

bool CModule::set_debug_flag(std::string_view flag, int value) const {
  return set_debug_variable(library_, table_.name, flag, value);
}

}  // namespace nbdkit
