// SPDX-License-Identifier: BSD-3-Clause
#include "base/secret.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

namespace nbdkit {
namespace {

constexpr std::string_view kMask = "***";

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// nbdkit_read_password: the terminal, a descriptor, a file.
bool is_indirect(std::string_view value) {
  if (value.empty() || value.front() == '+') return true;
  return value.front() == '-' && std::all_of(value.begin() + 1, value.end(), is_digit);
}

// Of scheme://user:PASSWORD@host, a view of `value`; empty when there is none.
std::string_view url_password(std::string_view value) {
  std::size_t begin = value.find("://");
  if (begin == std::string_view::npos) return {};
  std::string_view authority = value.substr(begin + 3);
  authority = authority.substr(0, authority.find_first_of("/?#"));
  std::size_t at = authority.rfind('@');
  if (at == std::string_view::npos) return {};
  std::size_t colon = authority.find(':');
  if (colon == std::string_view::npos || colon > at) return {};
  return authority.substr(colon + 1, at - colon - 1);
}

}  // namespace

bool is_secret_key(std::string_view key) {
  constexpr std::array<std::string_view, 9> kWords{"pass",       "secret", "token", "cookie", "psk",
                                                   "credential", "auth",   "key",   "private"};
  std::string word(key);
  for (char& c : word) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return std::any_of(kWords.begin(), kWords.end(), [&](std::string_view secret) {
    return word.find(secret) != std::string::npos;
  });
}

std::string_view secret_in(std::string_view parameter) {
  std::size_t equals = parameter.find('=');
  if (equals != std::string_view::npos && is_secret_key(parameter.substr(0, equals))) {
    std::string_view value = parameter.substr(equals + 1);
    return is_indirect(value) ? std::string_view() : value;
  }
  return url_password(parameter);
}

std::string shown_parameter(std::string_view key, std::string_view value) {
  if (is_secret_key(key) && !is_indirect(value)) return fmt::format("{}={}", key, kMask);
  return fmt::format("{}={}", key, without_password(value));
}

std::string without_password(std::string_view url) {
  std::string text(url);
  if (std::string_view password = url_password(text); !password.empty()) {
    text.replace(static_cast<std::size_t>(password.data() - text.data()), password.size(), kMask);
  }
  return text;
}

}  // namespace nbdkit
