// SPDX-License-Identifier: BSD-3-Clause
#include "plugin_host/api/caller.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace nbdkit {

Session* calling_session() {
  CallContext* call = CallContext::current();
  return call != nullptr ? call->session() : nullptr;
}

Interns* calling_interns() {
  if (Session* session = calling_session()) return &session->interns();
  PluginHost* host = PluginHost::current();
  return host != nullptr ? &host->interns() : nullptr;
}

void tell_error(std::string text) {
  int saved = errno;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (CallContext* call = CallContext::current()) {
    call->report(std::move(text));
  } else if (PluginHost* host = PluginHost::current()) {
    host->log().write(LogLevel::error, "", text);
  }
  errno = saved;
}

char* duplicate(std::string_view text) {
  auto* copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy == nullptr) {
    tell_error("out of memory");
    return nullptr;
  }
  std::memcpy(copy, text.data(), text.size());
  copy[text.size()] = '\0';
  return copy;
}

}  // namespace nbdkit
