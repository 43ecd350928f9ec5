// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_parameter_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/unique_fd.h"

namespace nbdkit {
namespace {

constexpr std::size_t kFileMax = 1 << 20;  // bytes
constexpr int kDepthMax = 16;              // files that name files

bool is_file(std::string_view text) {
  return text.starts_with('@') && text.find('/') != std::string_view::npos;
}

Result<std::string> read_file(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return os_error(fmt::format("@{}", path));
  std::string text;
  char piece[4096];
  for (;;) {
    ssize_t n = ::read(file.get(), piece, sizeof piece);
    if (n < 0) return os_error(fmt::format("@{}", path));
    if (n == 0) return text;
    text.append(piece, static_cast<std::size_t>(n));
    if (text.size() > kFileMax) {
      return Error(std::errc::file_too_large,
                   fmt::format("@{}: a file of parameters has at most {} bytes", path, kFileMax));
    }
  }
}

Result<void> add_file(const std::string& path, int depth, std::vector<std::string>& parameters) {
  if (depth > kDepthMax) {
    return Error(std::errc::too_many_symbolic_link_levels,
                 fmt::format("@{}: more than {} files that name each other", path, kDepthMax));
  }
  Result<std::string> text = read_file(path);
  if (!text.ok()) return std::move(text).error();
  const std::string folder = path.substr(0, path.rfind('/') + 1);
  std::string_view rest = text.value();
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.empty() || line.starts_with('#')) continue;
    if (!is_file(line)) {
      parameters.emplace_back(line);
      continue;
    }
    std::string_view name = line.substr(1);
    std::string file = name.starts_with('/') ? std::string(name) : folder + std::string(name);
    NBDKIT_TRY(add_file(file, depth + 1, parameters));
  }
  return {};
}

}  // namespace

Result<std::vector<std::string>> expand_parameter_files(std::vector<std::string> parameters) {
  std::vector<std::string> expanded;
  for (std::string& parameter : parameters) {
    if (is_file(parameter)) {
      NBDKIT_TRY(add_file(parameter.substr(1), 1, expanded));
    } else {
      expanded.push_back(std::move(parameter));
    }
  }
  return expanded;
}

}  // namespace nbdkit
