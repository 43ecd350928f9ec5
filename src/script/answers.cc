// SPDX-License-Identifier: BSD-3-Clause
#include "script/answers.h"

#include <fmt/format.h>
#include <strings.h>

#include <array>
#include <cctype>
#include <charconv>
#include <utility>

#include "base/parse.h"

namespace nbdkit {
namespace {

constexpr std::uint32_t kNoBlockMax = 0xffffffff;
constexpr std::string_view kWhite = " \t\r\n\v\f";

bool same_word(std::string_view a, std::string_view b) {
  return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0;
}

// The next word of `text`, which loses it.
std::string_view take_word(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(kWhite), text.size()));
  std::string_view word = text.substr(0, text.find_first_of(kWhite));
  text.remove_prefix(word.size());
  return word;
}

// The next line of `text`, which loses it. `text` is not empty.
std::string_view take_line(std::string_view& text) {
  std::string_view line = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(text.size(), line.size() + 1));
  return line;
}

// The errors that a client can be told of (and those that mean one of them).
std::errc errc_of(std::string_view word) {
  static constexpr std::array<std::pair<std::string_view, int>, 12> kNames{{
      {"EPERM", EPERM},
      {"EIO", EIO},
      {"ENOMEM", ENOMEM},
      {"EINVAL", EINVAL},
      {"ENOSPC", ENOSPC},
      {"ESHUTDOWN", ESHUTDOWN},
      {"ENOTSUP", ENOTSUP},
      {"EOPNOTSUPP", EOPNOTSUPP},
      {"EROFS", EROFS},
      {"EFBIG", EFBIG},
      {"EDQUOT", EDQUOT},
      {"EOVERFLOW", EOVERFLOW},
  }};
  for (const auto& [name, number] : kNames) {
    if (same_word(word, name)) return static_cast<std::errc>(number);
  }
  return {};
}

// Words that are no type say nothing: data.
ExtentType parse_type(std::string_view word) {
  constexpr auto kAll = static_cast<std::uint32_t>(ExtentType::hole_and_zero);
  std::uint32_t bits = 0;
  auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), bits);
  if (error == std::errc{} && end == word.data() + word.size()) {
    return static_cast<ExtentType>(bits & kAll);
  }
  bits = 0;
  while (!word.empty()) {
    std::string_view part = word.substr(0, word.find(','));
    if (same_word(part, "hole")) bits |= static_cast<std::uint32_t>(ExtentType::hole);
    if (same_word(part, "zero")) bits |= static_cast<std::uint32_t>(ExtentType::zero);
    word.remove_prefix(std::min(word.size(), part.size() + 1));
  }
  return static_cast<ExtentType>(bits);
}

Error bad(std::string text) { return Error(std::errc::io_error, std::move(text)); }

Result<std::uint32_t> parse_block(std::string_view word) {
  Result<std::int64_t> size = parse_size(word);
  if (!size.ok()) return std::move(size).error();
  if (size.value() > kNoBlockMax) return bad(fmt::format("the block size {} is too large", word));
  return static_cast<std::uint32_t>(size.value());
}

Result<ExportEntry> make_export(std::string_view name, std::string_view description) {
  if (name.size() > Layer::kNameMax || description.size() > Layer::kNameMax) {
    return bad(
        fmt::format("an export's name or description has more than {} bytes", Layer::kNameMax));
  }
  return ExportEntry{std::string(name), std::string(description)};
}

}  // namespace

Error parse_script_error(std::string_view errors) {
  std::string_view line = errors.empty() ? errors : take_line(errors);
  std::string_view word = line.substr(0, line.find_first_of(kWhite));
  std::errc code = errc_of(word);
  if (code == std::errc{}) return Error(std::errc::io_error, std::string(line));
  line.remove_prefix(word.size());
  line.remove_prefix(std::min(line.find_first_not_of(kWhite), line.size()));
  return Error(code, std::string(line));
}

std::string_view without_newline(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

std::optional<ScriptMode> parse_script_mode(std::string_view text) {
  text = without_newline(text);
  if (same_word(text, "none")) return ScriptMode::none;
  if (same_word(text, "emulate")) return ScriptMode::emulate;
  if (same_word(text, "native")) return ScriptMode::native;
  return std::nullopt;
}

Result<BlockSize> parse_block_size(std::string_view text) {
  BlockSize block;
  for (std::uint32_t* part : {&block.minimum, &block.preferred, &block.maximum}) {
    std::string_view word = take_word(text);
    if (word.empty()) return bad("block_size has to print three sizes");
    Result<std::uint32_t> size = parse_block(word);
    if (!size.ok()) return std::move(size).error();
    *part = size.value();
  }
  NBDKIT_TRY(check_block_size(block));
  return block;
}

Result<void> parse_extents(std::string_view text, Extents& extents) {
  while (!text.empty() && !extents.full()) {
    std::string_view line = take_line(text);
    std::string_view rest = line;
    std::string_view offset = take_word(rest);
    std::string_view length = take_word(rest);
    if (length.empty()) {
      return bad(fmt::format("'{}' is no extent: it has to be OFFSET LENGTH [TYPE]", line));
    }
    Result<std::int64_t> begin = parse_size(offset);
    if (!begin.ok()) return bad(std::string(begin.error().detail()));
    Result<std::int64_t> bytes = parse_size(length);
    if (!bytes.ok()) return bad(std::string(bytes.error().detail()));
    Result<void> added =
        extents.add(static_cast<std::uint64_t>(begin.value()),
                    static_cast<std::uint64_t>(bytes.value()), parse_type(take_word(rest)));
    if (!added.ok()) {
      return Error(std::errc::invalid_argument,
                   fmt::format("the extent '{}' does not begin where the one before ends, or the "
                               "first one does not have the first byte that was asked for",
                               line));
    }
  }
  if (!extents.list().empty()) return {};
  return Error(std::errc::invalid_argument, "there is not a single extent");
}

Result<std::vector<ExportEntry>> parse_exports(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) lines.push_back(take_line(text));
  const std::string_view mode = lines.empty() ? "" : lines.front();
  const bool interleaved = mode == "INTERLEAVED";
  const bool halves = mode == "NAMES+DESCRIPTIONS";
  if (interleaved || halves || mode == "NAMES") lines.erase(lines.begin());

  // An odd line at the end is a name without a description.
  const bool described = interleaved || halves;
  const std::size_t count = described ? (lines.size() + 1) / 2 : lines.size();
  if (count > Layer::kExportsMax) {
    return bad(fmt::format("there are more than {} exports", Layer::kExportsMax));
  }
  std::vector<ExportEntry> exports;
  for (std::size_t i = 0; i < count; ++i) {
    std::size_t name = interleaved ? 2 * i : i;
    std::size_t description = interleaved ? 2 * i + 1 : count + i;
    bool has = described && description < lines.size();
    Result<ExportEntry> entry = make_export(lines[name], has ? lines[description] : "");
    if (!entry.ok()) return std::move(entry).error();
    exports.push_back(std::move(entry).value());
  }
  return exports;
}

}  // namespace nbdkit
