// SPDX-License-Identifier: BSD-3-Clause
#include "server/control_trace.h"

#include <fmt/format.h>

#include "base/log_topics.h"

namespace nbdkit {

void trace_control(const Context& context, std::string_view who, std::string_view question) {
  if (!traces_control_path(context.log())) return;
  context.log().debug(who, "{}: {}", who.substr(0, who.rfind('.')), question);
}

void trace_open(const Context& context, std::string_view who) {
  if (!traces_control_path(context.log())) return;
  // The name is the client's, and might bring line ends.
  trace_control(context, who,
                fmt::format("open readonly={:d} exportname={:?} tls={:d}", context.read_only,
                            context.export_name, context.tls));
}

}  // namespace nbdkit
