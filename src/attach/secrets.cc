// SPDX-License-Identifier: BSD-3-Clause
#include "attach/secrets.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/secret.h"

namespace nbdkit {
namespace {

constexpr std::string_view kMask = "********";
// Too common as a word, and too easy to guess, to be worth taking out of every line.
constexpr std::size_t kSecretMin = 4;
constexpr std::array<std::string_view, 4> kWords{"true", "false", "none", "null"};

bool is_key_letter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '.';
}

bool ends_word(char c) {
  return std::isspace(static_cast<unsigned char>(c)) != 0 || c == '"' || c == '\'' || c == ',' ||
         c == ';' || c == ')' || c == '\0';
}

void add_secret(std::string_view parameter, std::vector<std::string>& secrets) {
  std::string_view secret = secret_in(parameter);
  bool word = std::find(kWords.begin(), kWords.end(), secret) != kWords.end();
  if (secret.size() < kSecretMin || word) return;
  if (std::find(secrets.begin(), secrets.end(), secret) == secrets.end()) {
    secrets.emplace_back(secret);
  }
}

void replace_all(std::string& text, std::string_view what) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += kMask.size()) {
    text.replace(at, what.size(), kMask);
  }
}

// Where the value that begins at `begin` ends. A parameter in quotes ends with them; blanks may be
// a part of the secret.
std::size_t end_of_value(std::string_view text, std::size_t key, std::size_t begin) {
  char quote = key > 0 ? text[key - 1] : '\0';
  bool quoted = quote == '"' || quote == '\'';
  std::size_t end = begin;
  for (; end < text.size(); ++end) {
    if (quoted && text[end] == '\\') {
      end = std::min(end + 1, text.size() - 1);
    } else if (quoted ? text[end] == quote || text[end] == '\n' : ends_word(text[end])) {
      break;
    }
  }
  return end;
}

void mask_parameters(std::string& text) {
  for (std::size_t at = 0; (at = text.find('=', at)) != std::string::npos; ++at) {
    std::size_t key = at;
    while (key > 0 && is_key_letter(text[key - 1])) --key;
    std::size_t end = end_of_value(text, key, at + 1);
    std::string_view parameter = std::string_view(text).substr(key, end - key);
    std::string_view secret = secret_in(parameter);
    // A password in a URL is looked for below.
    if (secret.empty() || secret.data() != text.data() + at + 1) continue;
    text.replace(at + 1, secret.size(), kMask);
  }
}

void mask_urls(std::string& text) {
  constexpr std::string_view kBegin = "://";
  for (std::size_t at = 0; (at = text.find(kBegin, at)) != std::string::npos; at += kBegin.size()) {
    std::size_t end = at + kBegin.size();
    while (end < text.size() && !ends_word(text[end])) ++end;
    std::string_view secret = secret_in(std::string_view(text).substr(at, end - at));
    if (secret.empty()) continue;
    text.replace(static_cast<std::size_t>(secret.data() - text.data()), secret.size(), kMask);
  }
}

}  // namespace

std::vector<std::string> secrets_of(const AttachOptions& options) {
  std::vector<std::string> secrets;
  for (const auto* words : {&options.plugin, &options.server_options, &options.environment}) {
    for (const std::string& word : *words) add_secret(word, secrets);
  }
  // One may be a part of another.
  std::sort(secrets.begin(), secrets.end(),
            [](const auto& a, const auto& b) { return a.size() > b.size(); });
  return secrets;
}

std::string mask_secrets(std::string_view text, const std::vector<std::string>& known) {
  std::string out(text);
  for (const std::string& secret : known) replace_all(out, secret);
  mask_parameters(out);
  mask_urls(out);
  std::replace_if(
      out.begin(), out.end(),
      [](unsigned char c) { return (c < ' ' && c != '\n' && c != '\t') || c == 0x7f; }, '?');
  return out;
}

}  // namespace nbdkit
