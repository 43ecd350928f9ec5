// SPDX-License-Identifier: BSD-3-Clause
// nbdkit_error, nbdkit_debug and the variables of -D nbdkit.FLAG=N.

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "plugin_host/api/caller.h"

extern "C" {
// Plugins and tools look these up by name; -D sets them before any thread exists.
int nbdkit_debug_backend_controlpath = 1;
int nbdkit_debug_backend_datapath = 1;
int nbdkit_debug_tls_log = 0;
int nbdkit_debug_tls_session = 0;
int nbdkit_debug_environ = 0;
}

namespace nbdkit {
namespace {

// errno must still be the caller's, for %m.
std::string format_text(const char* format, va_list args) {
  char* text = nullptr;
  if (::vasprintf(&text, format, args) < 0) return format;
  std::string copy(text);
  std::free(text);
  return copy;
}

Log* verbose_log() {
  PluginHost* host = PluginHost::current();
  return host != nullptr && host->log().verbose() ? &host->log() : nullptr;
}

void tell_debug(Log& log, std::string_view text) {
  Session* session = calling_session();
  log.write(LogLevel::debug, session != nullptr ? std::string_view(session->who()) : "", text);
}

constexpr std::size_t kHexRow = 16;

// "00000010: 41 42 ...  |AB...|", with the row's place in the data at its beginning.
std::string hex_row(const unsigned char* bytes, std::size_t length, std::size_t row,
                    const unsigned char* other) {
  std::string hex;
  std::string text;
  for (std::size_t i = row; i < row + kHexRow; ++i) {
    bool shown = i < length && (other == nullptr || bytes[i] != other[i]);
    hex += shown ? fmt::format("{:02x} ", bytes[i]) : "   ";
    if (shown) {
      text += std::isprint(bytes[i]) != 0 ? static_cast<char>(bytes[i]) : '.';
    } else {
      text += ' ';
    }
  }
  return fmt::format("{}|{}|", hex, text);
}

}  // namespace
}  // namespace nbdkit

using namespace nbdkit;

extern "C" {

void nbdkit_verror(const char* format, va_list args) {
  int saved = errno;
  tell_error(format_text(format, args));
  errno = saved;
}

void nbdkit_error(const char* format, ...) {
  va_list args;
  va_start(args, format);
  nbdkit_verror(format, args);
  va_end(args);
}

void nbdkit_vdebug(const char* format, va_list args) {
  int saved = errno;
  if (Log* log = verbose_log()) {
    errno = saved;
    tell_debug(*log, format_text(format, args));
  }
  errno = saved;
}

void nbdkit_debug(const char* format, ...) {
  va_list args;
  va_start(args, format);
  nbdkit_vdebug(format, args);
  va_end(args);
}

void nbdkit_debug_hexdump(const void* buffer, size_t length, const char* prefix, uint64_t start) {
  Log* log = verbose_log();
  if (log == nullptr) return;
  int saved = errno;
  const auto* bytes = static_cast<const unsigned char*>(buffer);
  for (std::size_t row = 0; row < length; row += kHexRow) {
    tell_debug(*log, fmt::format("{}{:08x}: {}", prefix != nullptr ? prefix : "", start + row,
                                 hex_row(bytes, length, row, nullptr)));
  }
  errno = saved;
}

void nbdkit_debug_hexdiff(const void* buffer1, const void* buffer2, size_t length,
                          const char* prefix, uint64_t start) {
  Log* log = verbose_log();
  if (log == nullptr) return;
  int saved = errno;
  const auto* old_bytes = static_cast<const unsigned char*>(buffer1);
  const auto* new_bytes = static_cast<const unsigned char*>(buffer2);
  std::string_view before = prefix != nullptr ? prefix : "";
  for (std::size_t row = 0; row < length; row += kHexRow) {
    std::size_t end = std::min(row + kHexRow, length);
    if (std::equal(old_bytes + row, old_bytes + end, new_bytes + row)) continue;
    tell_debug(*log, fmt::format("{}-{:08x}: {}", before, start + row,
                                 hex_row(old_bytes, length, row, nullptr)));
    tell_debug(*log, fmt::format("{}+{:08x}: {}", before, start + row,
                                 hex_row(new_bytes, length, row, old_bytes)));
  }
  errno = saved;
}

void nbdkit_set_error(int error) {
  if (CallContext* call = CallContext::current()) {
    call->set_error(error);
  } else {
    errno = error;  // A thread of the plugin's own has no call that could fail.
  }
}

}  // extern "C"
