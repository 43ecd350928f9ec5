// SPDX-License-Identifier: BSD-3-Clause
// Log: the one place where text for the operator leaves the program.
//
//   nbdkit: file.3: error: pread: Input/output error
//   nbdkit: nbdkit: debug: listening on socket
//
// The word before the level says who speaks: a plugin or filter, with the number of the connection.
#pragma once

#include <fmt/format.h>

#include <iterator>
#include <string>
#include <string_view>

namespace nbdkit {

enum class LogLevel { error, warning, debug };

// Thread-safe: one message is one write(2) of at most kLogLineMax bytes, so lines never mix.
class Log {
 public:
  static constexpr std::size_t kLogLineMax = 16 * 1024;

  Log(std::string program, bool verbose, int fd = 2);
  virtual ~Log() = default;

  bool verbose() const { return verbose_; }
  std::string_view program() const { return program_; }

  // `who` may be empty: errors of start-up have no layer to name.
  virtual void write(LogLevel level, std::string_view who, std::string_view text);

  template <typename... Args>
  void error(std::string_view who, fmt::format_string<Args...> format, Args&&... args) {
    write_formatted(LogLevel::error, who, format, std::forward<Args>(args)...);
  }
  template <typename... Args>
  void warning(std::string_view who, fmt::format_string<Args...> format, Args&&... args) {
    write_formatted(LogLevel::warning, who, format, std::forward<Args>(args)...);
  }
  // Costs one branch unless the program is verbose.
  template <typename... Args>
  void debug(std::string_view who, fmt::format_string<Args...> format, Args&&... args) {
    if (verbose_) write_formatted(LogLevel::debug, who, format, std::forward<Args>(args)...);
  }

 private:
  // On the stack unless it is long: a request that fails may be one that memory waits for.
  template <typename... Args>
  void write_formatted(LogLevel level, std::string_view who, fmt::format_string<Args...> format,
                       Args&&... args) {
    fmt::memory_buffer text;
    fmt::format_to(std::back_inserter(text), format, std::forward<Args>(args)...);
    write(level, who, {text.data(), text.size()});
  }

  std::string program_;
  bool verbose_;
  int fd_;
};

}  // namespace nbdkit
