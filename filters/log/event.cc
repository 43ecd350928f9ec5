// SPDX-License-Identifier: BSD-3-Clause
#include "event.h"

#include <fmt/format.h>

#include <cstring>

namespace nbdkit {
namespace {

std::string_view word(ExtentType type) {
  switch (type) {
    case ExtentType::data:
      return "\"\"";
    case ExtentType::hole:
      return "\"hole\"";
    case ExtentType::zero:
      return "\"zero\"";
    case ExtentType::hole_and_zero:
      return "\"hole,zero\"";
  }
  return "\"\"";
}

std::string_view word(Event::Type type) {
  switch (type) {
    case Event::Type::print:
      return "PRINT";
    case Event::Type::enter:
      return "ENTER";
    case Event::Type::leave:
      return "LEAVE";
  }
  return "";
}

std::string name_of(std::errc code) {
  if (code == std::errc::not_supported || code == std::errc::operation_not_supported) {
    return "ENOTSUP";  // One number with two names; NBD knows this one.
  }
  const char* name = ::strerrorname_np(static_cast<int>(code));
  return name != nullptr ? name : "EIO";
}

// "(a b c)", cut at kListTextMax.
template <typename T, typename ToText>
std::string list(std::span<const T> items, ToText to_text) {
  std::string text = "(";
  for (const T& item : items) {
    if (text.size() > 1) text += ' ';
    if (text.size() > kListTextMax) {
      text += "...";
      break;
    }
    text += to_text(item);
  }
  return text + ')';
}

}  // namespace

std::string quote_for_log(std::string_view text) {
  constexpr std::string_view kHarmless =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_=,:/";
  if (!text.empty() && text.find_first_not_of(kHarmless) == std::string_view::npos) {
    return std::string(text);
  }
  std::string quoted = "\"";
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      quoted += fmt::format("\\x{:02x}", byte);
      continue;
    }
    if (c == '"' || c == '\\' || c == '$' || c == '`') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

std::string quote_for_shell(std::string_view text) {
  std::string quoted = "'";
  for (char c : text) {
    if (c == '\'') {
      quoted += "'\\''";
    } else if (c != '\0') {
      quoted += c;
    }
  }
  return quoted + '\'';
}

void Event::add(std::string_view key, std::string_view in_file, std::string_view in_shell) {
  fields_.append(" ").append(key).append("=").append(in_file);
  variables_.append(key).append("=").append(in_shell).append("\n");
}

Event& Event::number(std::string_view key, std::uint64_t value) {
  std::string text = std::to_string(value);
  add(key, text, text);
  return *this;
}

Event& Event::hex(std::string_view key, std::uint64_t value) {
  std::string text = fmt::format("{:#x}", value);
  add(key, text, text);
  return *this;
}

Event& Event::text(std::string_view key, std::string_view value) {
  add(key, quote_for_log(value), quote_for_shell(value));
  return *this;
}

Event& Event::exports(std::span<const ExportEntry> exports) {
  std::string names =
      list(exports, [](const ExportEntry& entry) { return quote_for_log(entry.name); });
  add("exports", names, quote_for_shell(names));
  return *this;
}

Event& Event::extents(std::span<const Extent> extents) {
  std::string all = list(extents, [](const Extent& extent) {
    return fmt::format("{:#x} {:#x} {}", extent.offset, extent.length, word(extent.type));
  });
  add("extents", all, quote_for_shell(all));
  return *this;
}

Event& Event::outcome(const Result<void>& result) {
  if (result.ok()) return number("return", 0);
  add("return", "-1", "-1");
  std::string name = name_of(result.error().code);
  add("error", name, name);
  return *this;
}

std::string Event::line(const timespec& now) const {
  tm local{};
  ::localtime_r(&now.tv_sec, &local);
  char date[sizeof "2020-08-06 02:07:23 and room for years to come"];
  std::size_t length = std::strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", &local);
  std::string line(date, length);
  line += fmt::format(".{:06}", now.tv_nsec / 1000);
  if (connection_ != 0) line += fmt::format(" connection={}", connection_);
  line += type_ == Type::leave ? " ..." : " ";
  line += action_;
  if (id_ != 0) line += fmt::format(" id={}", id_);
  line += fields_;
  if (type_ == Type::enter) line += " ...";
  line += '\n';
  return line;
}

std::string Event::assignments() const {
  std::string all = fmt::format("act={}\n", action_);
  if (connection_ != 0) all += fmt::format("connection={}\n", connection_);
  all += fmt::format("type={}\n", word(type_));
  if (id_ != 0) all += fmt::format("id={}\n", id_);
  return all + variables_;
}

}  // namespace nbdkit
