// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_debug.h"

#include <unistd.h>

#include <algorithm>
#include <string_view>

#include "base/log_topics.h"
#include "base/secret.h"
#include "tls/trace.h"

namespace nbdkit {
namespace {

// The last one counts, as it does for the variables of plugins.
int server_flag(const Options& options, std::string_view name, int value) {
  for (const DebugFlag& flag : options.debug_flags) {
    if (flag.name == "nbdkit" && flag.flag == name) value = flag.value;
  }
  return value;
}

}  // namespace

void choose_debug_messages(const Options& options, Log& log) {
  LogTopics topics;
  topics.control_path = server_flag(options, "backend.controlpath", 1) != 0;
  topics.data_path = server_flag(options, "backend.datapath", 1) != 0;
  topics.tls_session = server_flag(options, "tls.session", 0) != 0;
  choose_topics(topics);
  const int level = server_flag(options, "tls.log", 0);
  if (level > 0 && log.verbose()) trace_gnutls(level, log);
}

void tell_environment(const Options& options, Log& log) {
  if (!log.verbose() || server_flag(options, "environ", 0) == 0) return;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    const std::size_t equals = std::min(text.find('='), text.size());
    const std::string_view value = text.substr(std::min(equals + 1, text.size()));
    log.debug("", "environ: {}", shown_parameter(text.substr(0, equals), value));
  }
}

}  // namespace nbdkit
