// SPDX-License-Identifier: BSD-3-Clause
// What is attached on this machine, whoever did it. Every call blocks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "attach/attachment_status.h"
#include "attach/run_folder.h"
#include "netlink/sysfs.h"

namespace nbdkit {

// The device as its keeper sees it; unmanaged when no keeper answers. not_attached when nothing is
// attached to it.
Result<AttachmentStatus> find_attachment(
    const Sysfs& sysfs, std::uint32_t index,
    const std::string& run_folder = std::string(RunFolder::kPath));

// By number; idle devices are left out.
std::vector<AttachmentStatus> list_attachments(
    const Sysfs& sysfs, const std::string& run_folder = std::string(RunFolder::kPath));

}  // namespace nbdkit
