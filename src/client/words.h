// SPDX-License-Identifier: BSD-3-Clause
// A server's words on their way to a log.
#pragma once

#include <string>
#include <string_view>

namespace nbdkit {

inline constexpr std::size_t kWordsMax = 512;  // bytes of a server's text that are worth a line

// One line, without what a terminal would take for a command.
inline std::string printable(std::string_view text) {
  std::string line(text.substr(0, kWordsMax));
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return line;
}

}  // namespace nbdkit
