// SPDX-License-Identifier: BSD-3-Clause
#include "attach/server_command.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>

#include "base/parse.h"

namespace nbdkit {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

bool is_secret_key(std::string_view key) {
  constexpr std::array<std::string_view, 9> kSecretWords{
      "password", "passwd", "passphrase", "secret", "token", "cookie", "credential", "auth", "key"};
  std::string word = lower(key);
  return std::any_of(kSecretWords.begin(), kSecretWords.end(), [&](std::string_view secret) {
    return word.find(secret) != std::string::npos;
  });
}

// These say where the secret is, not what it is: a prompt, a file, a descriptor.
bool is_indirect(std::string_view value) {
  return value.empty() || value == "-" || value.starts_with('+');
}

// The password in scheme://user:PASSWORD@host; empty when there is none.
std::string_view url_password(std::string_view value) {
  std::size_t begin = value.find("://");
  if (begin == std::string_view::npos) return {};
  std::string_view authority = value.substr(begin + 3);
  authority = authority.substr(0, authority.find('/'));
  std::size_t at = authority.rfind('@');
  std::size_t colon = authority.find(':');
  if (at == std::string_view::npos || colon == std::string_view::npos || colon > at) return {};
  return authority.substr(colon + 1, at - colon - 1);
}

// What follows `--filter=` or, in the next argument, `--filter`.
void collect_filters(const std::vector<std::string>& arguments, std::vector<std::string>& filters) {
  constexpr std::string_view kOption = "--filter";
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string_view argument = arguments[i];
    if (argument == "--") return;
    if (argument == kOption && i + 1 < arguments.size()) {
      filters.push_back(arguments[++i]);
    } else if (argument.starts_with(kOption) && argument.substr(kOption.size()).starts_with('=')) {
      filters.emplace_back(argument.substr(kOption.size() + 1));
    }
  }
}

// "dir/nbdkit-NAME-KIND.so" -> NAME
std::string module_name(std::string_view argument, std::string_view kind) {
  std::string_view name = argument;
  if (name.find_first_of("./") == std::string_view::npos) return std::string(name);
  std::size_t slash = name.rfind('/');
  if (slash != std::string_view::npos) name.remove_prefix(slash + 1);
  if (name.ends_with(".so")) name.remove_suffix(3);
  std::string suffix = "-" + std::string(kind);
  if (name.ends_with(suffix)) name.remove_suffix(suffix.size());
  constexpr std::string_view kPrefix = "nbdkit-";
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  return std::string(name);
}

}  // namespace

std::vector<std::string> server_arguments(const AttachOptions& options,
                                          const ServerDescriptors& descriptors) {
  std::vector<std::string> arguments{options.server, "-f"};
  arguments.push_back("--handoff-fd=" + std::to_string(descriptors.handoff));
  arguments.push_back("--handoff-fd=" + std::to_string(descriptors.door));
  arguments.push_back("--kept-memory-fd=" + std::to_string(descriptors.kept_memory));
  arguments.push_back("--request-ledger-fd=" + std::to_string(descriptors.ledger));
  if (options.read_only) arguments.push_back("--readonly");
  if (options.verbose) arguments.push_back("--verbose");
  if (!options.user.empty()) arguments.push_back("--user=" + options.user);
  if (!options.group.empty()) arguments.push_back("--group=" + options.group);
  if (options.swap == SwapMode::on) arguments.push_back("--swap");
  if (options.swap == SwapMode::force) arguments.push_back("--swap=force");
  for (const std::string& filter : options.filters) arguments.push_back("--filter=" + filter);
  arguments.insert(arguments.end(), options.server_options.begin(), options.server_options.end());
  arguments.insert(arguments.end(), options.plugin.begin(), options.plugin.end());
  return arguments;
}

std::vector<int> named_descriptors(const AttachOptions& options) {
  std::vector<int> numbers;
  for (std::string_view argument : options.plugin) {
    std::size_t equals = argument.find('=');
    if (equals == std::string_view::npos) continue;
    std::string_view key = argument.substr(0, equals);
    if (key != "fd" && key != "dirfd") continue;
    auto number = parse_unsigned(argument.substr(equals + 1), std::numeric_limits<int>::max());
    if (number.ok() && number.value() > 2) numbers.push_back(static_cast<int>(number.value()));
  }
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  return numbers;
}

std::string plugin_name(const AttachOptions& options) {
  return module_name(options.plugin.front(), "plugin");
}

std::vector<std::string> filter_names(const AttachOptions& options) {
  std::vector<std::string> filters = options.filters;
  collect_filters(options.server_options, filters);
  collect_filters(options.plugin, filters);
  for (std::string& filter : filters) filter = module_name(filter, "filter");
  return filters;
}

std::string_view secret_in(std::string_view parameter) {
  std::size_t equals = parameter.find('=');
  if (equals != std::string_view::npos && is_secret_key(parameter.substr(0, equals))) {
    std::string_view value = parameter.substr(equals + 1);
    return is_indirect(value) ? std::string_view() : value;
  }
  return url_password(parameter);
}

}  // namespace nbdkit
