// SPDX-License-Identifier: BSD-3-Clause
// What scripts print, understood.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "block/extents.h"
#include "block/layer.h"
#include "block/properties.h"

namespace nbdkit {

// Of stderr: the name of an errno, white space and words for the operator; everything is optional,
// and only the first line counts.
Error parse_script_error(std::string_view errors);

// Without the newline at the end.
std::string_view without_newline(std::string_view text);

// The answers to can_fua and can_cache.
enum class ScriptMode { none, emulate, native };
std::optional<ScriptMode> parse_script_mode(std::string_view text);

// Three sizes.
Result<BlockSize> parse_block_size(std::string_view text);

// One extent a line: OFFSET LENGTH [TYPE].
Result<void> parse_extents(std::string_view text, Extents& extents);

// Export names, with or without descriptions, as the first line says.
Result<std::vector<ExportEntry>> parse_exports(std::string_view text);

}  // namespace nbdkit
