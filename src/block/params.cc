// SPDX-License-Identifier: BSD-3-Clause
#include "block/params.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <utility>

#include "base/secret.h"

namespace nbdkit {
namespace {

Result<void> check_limits(std::int64_t n, const Params::Doc& doc) {
  if (n >= doc.min && n <= doc.max) return {};
  return Error(std::errc::result_out_of_range,
               fmt::format("{} is out of range ({}..{})", n, doc.min, doc.max));
}

// Parses with `parse`, checks with `check` and only then sets `value`.
template <typename T, typename Parse>
Params::Parser store(T& value, Parse parse) {
  return [&value, parse](std::string_view text) -> Result<void> {
    auto parsed = parse(text);
    if (!parsed.ok()) return std::move(parsed).error();
    value = std::move(parsed).value();
    return {};
  };
}

}  // namespace

void Params::add(std::string_view key, std::string_view type, Parser parse, Doc doc) {
  params_.push_back({std::string(key), std::string(doc.alias), std::string(type),
                     std::string(doc.help), doc.magic, std::move(parse)});
}

void Params::add_size(std::string_view key, std::int64_t& value, Doc doc) {
  auto parse = [doc](std::string_view text) -> Result<std::int64_t> {
    Result<std::int64_t> size = parse_size(text);
    if (size.ok()) NBDKIT_TRY(check_limits(size.value(), doc));
    return size;
  };
  add(key, "SIZE", store(value, parse), doc);
}

void Params::add_number(std::string_view key, std::int64_t& value, Doc doc) {
  auto parse = [doc](std::string_view text) { return parse_signed(text, doc.min, doc.max); };
  add(key, "N", store(value, parse), doc);
}

void Params::add_bool(std::string_view key, bool& value, Doc doc) {
  add(key, "true|false", store(value, &parse_bool), doc);
}

void Params::add_delay(std::string_view key, Nanoseconds& value, Doc doc) {
  add(key, "DELAY", store(value, &parse_delay), doc);
}

void Params::add_text(std::string_view key, std::string& value, Doc doc) {
  auto parse = [](std::string_view text) -> Result<std::string> { return std::string(text); };
  add(key, "TEXT", store(value, parse), doc);
}

void Params::add_path(std::string_view key, std::string& value, Doc doc) {
  add(key, "PATH", store(value, &absolute_path), doc);
}

void Params::add_choice(std::string_view key, std::size_t& value, std::vector<std::string> words,
                        Doc doc) {
  std::string type = fmt::format("{}", fmt::join(words, "|"));
  auto parse = [words = std::move(words), type](std::string_view text) -> Result<std::size_t> {
    auto found = std::find(words.begin(), words.end(), text);
    if (found != words.end()) return static_cast<std::size_t>(found - words.begin());
    return Error(std::errc::invalid_argument, fmt::format("'{}' is none of {}", text, type));
  };
  add(key, type, store(value, parse), doc);
}

Result<bool> Params::set(std::string_view key, std::string_view value) {
  auto param = std::find_if(params_.begin(), params_.end(), [&](const Param& one) {
    return one.key == key || (!one.alias.empty() && one.alias == key);
  });
  if (param == params_.end()) return false;
  Result<void> parsed = param->parse(value);
  if (!parsed.ok()) {
    return Error(parsed.error().code,
                 fmt::format("{}: {}", shown_parameter(key, value), parsed.error().message()));
  }
  return true;
}

std::string_view Params::magic_key() const {
  for (const Param& param : params_) {
    if (param.magic) return param.key;
  }
  return {};
}

std::string Params::help() const {
  std::string text;
  for (const Param& param : params_) {
    std::string left = param.magic ? fmt::format("[{}=]{}", param.key, param.type)
                                   : fmt::format("{}={}", param.key, param.type);
    std::string alias = param.alias.empty() ? "" : fmt::format(" (or {}=)", param.alias);
    text += fmt::format("{:<30} {}{}\n", left, param.help, alias);
  }
  return text;
}

Result<std::string> absolute_path(std::string_view path) {
  if (path.empty()) return Error(std::errc::invalid_argument, "the path is empty");
  if (path.front() == '/') return std::string(path);
  char directory[PATH_MAX];
  if (::getcwd(directory, sizeof directory) == nullptr) return os_error("getcwd");
  return fmt::format("{}/{}", directory, path);
}

}  // namespace nbdkit
