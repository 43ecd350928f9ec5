// SPDX-License-Identifier: BSD-3-Clause
// What the kernel's files and log say, as text for people. Every call may block.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace nbdkit {

// The file's content, or why it cannot be read, in parentheses.
std::string read_text(const std::string& path);
// "PATH: CONTENT", or the lines of the content below the path.
std::string show_file(const std::string& path);
// All files of a folder that can be read, by name.
std::string show_folder(const std::string& path);
// Only the lines that contain `word`.
std::string show_lines(const std::string& path, std::string_view word);

// A process and its threads: limits, memory, what they wait for, which files are open.
std::string show_process(pid_t pid);

// The last lines of the kernel's log about a device, the driver or tasks that hang.
std::string show_kernel_log(std::uint32_t index);

}  // namespace nbdkit
