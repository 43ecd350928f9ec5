// SPDX-License-Identifier: BSD-3-Clause
#include "attach/server_command.h"

#include <algorithm>
#include <limits>

#include "base/parse.h"

namespace nbdkit {
namespace {

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

}  // namespace nbdkit
