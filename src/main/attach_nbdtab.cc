// SPDX-License-Identifier: BSD-3-Clause
#include "main/attach_nbdtab.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

constexpr std::string_view kBlanks = " \t\r";
constexpr std::string_view kPluginMark = "plugin:";
constexpr std::string_view kOwnMark = "_nbdkit-";  // nbd-client leaves what begins with _ alone
// No option: it follows the address.
constexpr std::string_view kKeepsUnflushed = "_nbdkit-keeps-unflushed";
constexpr std::string_view kNothing = "-";

std::vector<std::string_view> split(std::string_view text, std::string_view separators) {
  std::vector<std::string_view> words;
  for (;;) {
    std::size_t begin = text.find_first_not_of(separators);
    if (begin == std::string_view::npos) return words;
    text.remove_prefix(begin);
    std::size_t end = std::min(text.find_first_of(separators), text.size());
    words.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
}

std::string_view short_name(std::string_view device) {
  constexpr std::string_view kFolder = "/dev/";
  if (device.starts_with(kFolder)) device.remove_prefix(kFolder.size());
  return device;
}

// Of a URI: all that could mean something there.
std::string percent_encode(std::string_view text) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/";
  std::string out;
  for (char c : text) {
    if (kPlain.find(c) != std::string_view::npos) {
      out.push_back(c);
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

// What stands in one line; its Errors say where.
class Line {
 public:
  Line(std::string_view file, std::size_t number, std::vector<std::string_view> fields)
      : file_(file), number_(number), fields_(std::move(fields)) {}

  Result<NbdtabLine> understand() {
    if (fields_.size() < 3) return wrong("a line needs a device, a host and an export");
    if (fields_.size() > 3) NBDKIT_TRY(take_options(fields_[3]));
    if (fields_[1].starts_with(kPluginMark)) {
      NBDKIT_TRY(make_plugin());
    } else {
      NBDKIT_TRY(make_address());
    }
    return std::move(line_);
  }

 private:
  Error wrong(std::string_view why) const {
    return attach_error(ExitCode::usage, fmt::format("{}:{}: {}", file_, number_, why));
  }

  Result<void> take_options(std::string_view field) {
    if (field == kNothing) return {};
    for (std::string_view option : split(field, ",")) {
      std::size_t equals = option.find('=');
      std::string_view value;
      if (equals != std::string_view::npos) value = option.substr(equals + 1);
      NBDKIT_TRY(take_option(option, option.substr(0, equals), value));
    }
    return {};
  }

  Result<void> take_option(std::string_view option, std::string_view name, std::string_view value) {
    if (option.ends_with('=')) return wrong(fmt::format("{}: has no value", option));
    if (option == kKeepsUnflushed) {
      keeps_unflushed_ = true;
      return {};
    }
    if (option.starts_with(kOwnMark)) {
      line_.options.push_back(fmt::format("--{}", option.substr(kOwnMark.size())));
      return {};
    }
    if (option.starts_with('_')) return {};  // somebody else's
    if (name == "swap" || name == "persist" || name == "unix") {
      if (option != name) return wrong(fmt::format("{}: takes no value", option));
      (name == "swap" ? swap_ : name == "persist" ? persist_ : unix_) = true;
      return {};
    }
    for (auto [known, why] : kRefused) {
      if (name == known) return wrong(fmt::format("{}: {}", option, why));
    }
    for (std::size_t i = 0; i < kTlsFiles.size(); ++i) {
      if (name == kTlsFiles[i].first) return take_tls_file(option, value, kTlsFiles[i].second);
    }
    if (name != "conns" && name != "timeout" && name != "port") {
      return wrong(
          fmt::format("{}: not an option of nbdtab(5); those of others begin with _", option));
    }
    const bool number = !value.empty() && value.find_first_not_of("0123456789") == value.npos;
    if (!number) return wrong(fmt::format("{}: must be a number", option));
    if (name == "conns") line_.options.push_back(fmt::format("--connections={}", value));
    if (name == "timeout") line_.options.push_back(fmt::format("--timeout={}", value));
    if (name == "port") port_ = value;
    return {};
  }

  // The plugin looks for all three in one folder.
  Result<void> take_tls_file(std::string_view option, std::string_view value,
                             std::string_view wanted) {
    std::filesystem::path path(value);
    std::string folder = path.parent_path().string();
    const bool fits = path.is_absolute() && path.filename().string() == wanted &&
                      (tls_folder_.empty() || tls_folder_ == folder);
    if (!fits) {
      return wrong(
          fmt::format("{}: must be {} in one folder with the other files of TLS", option, wanted));
    }
    tls_folder_ = std::move(folder);
    return {};
  }

  Result<void> make_plugin() {
    std::string_view name = fields_[1].substr(kPluginMark.size());
    if (name.empty() || name.starts_with('-')) {
      return wrong(fmt::format("{}: must be {}NAME", fields_[1], kPluginMark));
    }
    if (persist_ || unix_ || keeps_unflushed_ || !port_.empty() || !tls_folder_.empty()) {
      return wrong("what is about a connection is not for a plugin, which has parameters");
    }
    if (fields_[2] != kNothing) line_.options.push_back(fmt::format("--export={}", fields_[2]));
    finish_options();
    line_.plugin.emplace_back(name);
    for (std::size_t i = 4; i < fields_.size(); ++i) line_.plugin.emplace_back(fields_[i]);
    return {};
  }

  Result<void> make_address() {
    if (fields_.size() > 4) {
      return wrong(
          fmt::format("{}: a fifth field; only a {} has parameters", fields_[4], kPluginMark));
    }
    std::string_view host = fields_[1];
    if (host.starts_with('-')) return wrong(fmt::format("{}: not the name of a host", host));
    if (unix_ && (!host.starts_with('/') || !port_.empty())) {
      return wrong(fmt::format("{}: unix wants an absolute path, and no port", host));
    }
    std::string uri =
        fmt::format("nbd{}{}://", tls_folder_.empty() ? "" : "s", unix_ ? "+unix" : "");
    if (!unix_) uri += host.find(':') == host.npos ? std::string(host) : fmt::format("[{}]", host);
    if (!port_.empty()) uri += ":" + port_;
    uri += "/" + percent_encode(fields_[2]);
    if (unix_) uri += "?socket=" + percent_encode(host);
    if (!tls_folder_.empty()) {
      uri += fmt::format("{}tls-certificates={}", unix_ ? "&" : "?", percent_encode(tls_folder_));
    }
    finish_options();
    // Whose writes are flushed, so that nothing can be missing when it has connected again.
    if (persist_) line_.plugin.emplace_back("nbd");
    line_.plugin.push_back(persist_ ? "uri=" + uri : uri);
    if (keeps_unflushed_) line_.plugin.emplace_back("keeps-unflushed=true");
    return {};
  }

  void finish_options() {
    if (swap_) line_.options.emplace_back("--swap");
  }

  using Pair = std::pair<std::string_view, std::string_view>;
  static constexpr std::array<Pair, 3> kTlsFiles{Pair{"cacertfile", "ca-cert.pem"},
                                                 Pair{"certfile", "client-cert.pem"},
                                                 Pair{"keyfile", "client-key.pem"}};
  static constexpr std::array<Pair, 4> kRefused{
      Pair{"bs", "the export says how large blocks are; take it out"},
      Pair{"no_optgo",
           "the older way is taken by itself when a server knows no other; take it out"},
      Pair{"sdp", "the Socket Direct Protocol is not there any more; take it out"},
      Pair{"tlshostname", "a certificate must be valid for the host as it is written"}};

  std::string_view file_;
  std::size_t number_;
  std::vector<std::string_view> fields_;
  NbdtabLine line_;
  bool swap_ = false;
  bool persist_ = false;
  bool unix_ = false;
  bool keeps_unflushed_ = false;
  std::string port_;
  std::string tls_folder_;
};

}  // namespace

Result<NbdtabLine> find_in_nbdtab(std::string_view text, std::string_view file,
                                  std::string_view device) {
  std::size_t number = 0;
  while (!text.empty()) {
    std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view row = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    std::vector<std::string_view> fields = split(row.substr(0, row.find('#')), kBlanks);
    if (fields.empty() || short_name(fields[0]) != short_name(device)) continue;
    return Line(file, number, std::move(fields)).understand();
  }
  return attach_error(ExitCode::usage, fmt::format("which plugin? (nbdkit-attach /dev/nbdN PLUGIN "
                                                   "key=value..., or a line of {} in {})",
                                                   short_name(device), file));
}

Result<NbdtabLine> read_nbdtab(const std::string& file, std::string_view device) {
  std::ifstream in(file);
  std::string text;
  if (in) text.assign(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  const bool usual = file == kNbdtab && !in.is_open();
  if ((!in || in.bad()) && !usual) {
    return attach_error(ExitCode::usage, os_error(fmt::format("--nbdtab={}", file)).message());
  }
  return find_in_nbdtab(text, file, device);
}

}  // namespace nbdkit
