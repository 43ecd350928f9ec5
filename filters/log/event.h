// SPDX-License-Identifier: BSD-3-Clause
// Event: one line of the log, and the same as variables of a shell script.
#pragma once

#include <cstdint>
#include <ctime>
#include <span>
#include <string>
#include <string_view>

#include "block/extents.h"
#include "block/layer.h"

namespace nbdkit {

// A list stops with "..." when its text has become so long (bytes): a script is one argument of
// the shell, which may have 128 KiB.
inline constexpr std::size_t kListTextMax = 32 * 1024;

// Its fields in order. A class, so that coroutines can take it by value.
class Event {
 public:
  enum class Type { print, enter, leave };

  Event(Type type, std::string_view action, std::uint64_t connection, std::uint64_t id)
      : type_(type), action_(action), connection_(connection), id_(id) {}

  Event& number(std::string_view key, std::uint64_t value);
  Event& hex(std::string_view key, std::uint64_t value);
  Event& text(std::string_view key, std::string_view value);
  Event& exports(std::span<const ExportEntry> exports);
  Event& extents(std::span<const Extent> extents);
  // "return=0", or "return=-1 error=EIO".
  Event& outcome(const Result<void>& result);

  // "2020-08-06 02:07:23.080712 connection=1 Read id=1 offset=0x0 count=0x200 ...\n"
  std::string line(const timespec& now) const;
  // Assignments, one a line: what a script finds as its variables.
  std::string assignments() const;

 private:
  void add(std::string_view key, std::string_view in_file, std::string_view in_shell);

  Type type_;
  std::string_view action_;   // a literal
  std::uint64_t connection_;  // 0: none
  std::uint64_t id_;          // 0: none
  std::string fields_;        // " key=value key=value"
  std::string variables_;     // "key=value\nkey=value\n"
};

// As the log file shows texts: bare when harmless, else in double quotes on one line, whatever a
// client put into the name of an export.
std::string quote_for_log(std::string_view text);
// One word for /bin/sh with exactly these bytes, without NULs, which no variable can hold.
std::string quote_for_shell(std::string_view text);

}  // namespace nbdkit
