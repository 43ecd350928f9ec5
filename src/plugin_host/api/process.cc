// SPDX-License-Identifier: BSD-3-Clause
// What a plugin can ask of the server itself.

#include <cerrno>
#include <ctime>

#include "plugin_host/api/caller.h"

using namespace nbdkit;

extern "C" {

void nbdkit_shutdown(void) {
  PluginHost* host = PluginHost::current();
  if (host != nullptr && host->hooks().shutdown) host->hooks().shutdown();
}

int nbdkit_stdio_safe(void) {
  PluginHost* host = PluginHost::current();
  return host != nullptr && host->stdio_safe() ? 1 : 0;
}

const char* nbdkit_name(void) {
  PluginHost* host = PluginHost::current();
  return host != nullptr ? host->hooks().name.c_str() : "nbdkit";
}

const char* nbdkit_timestamp(void) {
  // The caller does not free it, so every thread has one of its own.
  thread_local char text[64];
  std::timespec now{};
  std::timespec_get(&now, TIME_UTC);
  std::tm local{};
  ::localtime_r(&now.tv_sec, &local);
  std::size_t length = std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &local);
  *fmt::format_to_n(text + length, sizeof text - length - 1, ".{:06}", now.tv_nsec / 1000).out =
      '\0';
  return text;
}

int nbdkit_nanosleep(unsigned seconds, unsigned nanoseconds) {
  PluginHost* host = PluginHost::current();
  if (host == nullptr) {
    errno = ESHUTDOWN;
    return -1;
  }
  if (host->sleep(Seconds(seconds) + Nanoseconds(nanoseconds), calling_session())) return 0;
  // It becomes the reply of the request that slept, and is nothing to be logged: somebody wanted
  // the end.
  nbdkit_set_error(ESHUTDOWN);
  errno = ESHUTDOWN;
  return -1;
}

}  // extern "C"
