// SPDX-License-Identifier: BSD-3-Clause
// The parameters and the result of the control socket's "upgrade" (docs/control-protocol.md).
#pragma once

#include "attach/attachment.h"
#include "attach/options.h"
#include "base/json.h"
#include "base/result.h"

namespace nbdkit {

Json to_json(const UpgradeOptions& options);
// argument_out_of_domain when it is none.
Result<UpgradeOptions> parse_upgrade_call(const Json& params);

Json to_json(const UpgradeReport& report);
// protocol_error when it is none.
Result<UpgradeReport> parse_upgrade_report(const Json& json);

}  // namespace nbdkit
