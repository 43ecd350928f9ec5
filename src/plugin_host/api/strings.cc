// SPDX-License-Identifier: BSD-3-Clause
// Strings that live as long as the connection or the process, and paths.

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "block/params.h"
#include "plugin_host/api/caller.h"

using namespace nbdkit;

namespace {

const char* keep(std::string_view text) {
  if (Interns* interns = calling_interns()) return interns->keep(text);
  tell_error("a string was to be kept by a server that has ended");
  return nullptr;
}

}  // namespace

extern "C" {

const char* nbdkit_strndup_intern(const char* text, size_t length_max) {
  if (text == nullptr) {
    tell_error("nbdkit_strndup_intern: there is no string");
    return nullptr;
  }
  return keep({text, ::strnlen(text, length_max)});
}

const char* nbdkit_strdup_intern(const char* text) {
  if (text == nullptr) {
    tell_error("nbdkit_strdup_intern: there is no string");
    return nullptr;
  }
  return keep(text);
}

const char* nbdkit_vprintf_intern(const char* format, va_list args) {
  char* text = nullptr;
  if (::vasprintf(&text, format, args) < 0) {
    tell_error("nbdkit_vprintf_intern: the text cannot be formatted");
    return nullptr;
  }
  const char* kept = keep(text);
  std::free(text);
  return kept;
}

const char* nbdkit_printf_intern(const char* format, ...) {
  va_list args;
  va_start(args, format);
  const char* kept = nbdkit_vprintf_intern(format, args);
  va_end(args);
  return kept;
}

char* nbdkit_absolute_path(const char* path) {
  Result<std::string> absolute = absolute_path(path != nullptr ? path : "");
  if (absolute.ok()) return duplicate(absolute.value());
  tell_error(absolute.error().message());
  return nullptr;
}

char* nbdkit_realpath(const char* path) {
  if (path == nullptr || *path == '\0') {
    tell_error("the path is empty");
    return nullptr;
  }
  char* real = ::realpath(path, nullptr);
  if (real == nullptr) tell_error(os_error(fmt::format("realpath: {}", path)).message());
  return real;
}

}  // extern "C"
