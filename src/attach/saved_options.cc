// SPDX-License-Identifier: BSD-3-Clause
#include "attach/saved_options.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "attach/queue_settings.h"
#include "attach/server_command.h"
#include "base/secret.h"

namespace nbdkit {
namespace {

using Strings = std::vector<std::string>;
using QueueChoices = std::vector<std::pair<std::string, std::string>>;

// JSON has only UTF-8, and paths have any bytes.
std::string encode(std::string_view text) {
  std::string out;
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80 || c == '%') {
      out += fmt::format("%{:02x}", byte);
    } else {
      out.push_back(c);
    }
  }
  return out;
}

int digit(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

std::string decode(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%' || i + 2 >= text.size()) {
      out.push_back(text[i]);
      continue;
    }
    out.push_back(static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2])));
    i += 2;
  }
  return out;
}

Json encode(const Strings& texts) {
  Json out = Json::array();
  for (const std::string& text : texts) out.push(encode(text));
  return out;
}

Json encode(const QueueChoices& settings) {
  Json out = Json::array();
  for (const auto& [key, value] : settings) out.push(encode(fmt::format("{}={}", key, value)));
  return out;
}

std::string name_of(std::string_view assignment) {
  return std::string(assignment.substr(0, assignment.find('=')));
}

// Takes what may be a secret out, and returns its names.
Strings take_secrets(Strings& texts) {
  Strings names;
  std::erase_if(texts, [&](const std::string& text) {
    if (secret_in(text).empty()) return false;
    names.push_back(name_of(text));
    return true;
  });
  return names;
}

std::string dump(const SavedOptions& saved) {
  const AttachOptions& options = saved.options;
  Json json = Json::object();
  json.set("index", options.index ? Json(*options.index) : Json())
      .set("read_only", options.read_only)
      .set("connections", options.connections)
      .set("export", encode(options.export_name))
      .set("name", encode(options.name))
      .set("metrics", encode(options.metrics))
      .set("request_timeout_s", options.request_timeout.count())
      .set("recheck_ms", options.recheck ? Json(options.recheck->count()) : Json())
      .set("dead_timeout_s", options.dead_timeout.count())
      .set("scan", options.scan)
      .set("queue", encode(options.queue))
      .set("swap", static_cast<std::int64_t>(options.swap))
      .set("server", encode(options.server))
      .set("folder", encode(options.folder))
      .set("environment", encode(options.environment))
      .set("file_mask", options.file_mask ? Json(*options.file_mask) : Json())
      .set("surroundings", to_json(options.surroundings))
      .set("user", encode(options.user))
      .set("group", encode(options.group))
      .set("filters", encode(options.filters))
      .set("server_options", encode(options.server_options))
      .set("plugin", encode(options.plugin))
      .set("missing_parameters", encode(saved.missing_parameters))
      .set("missing_variables", encode(saved.missing_variables));
  return json.dump() + "\n";
}

// Whatever is not as it was written makes it unusable as a whole.
class Reader {
 public:
  explicit Reader(const Json& json) : json_(json) {}

  void read(std::string_view key, std::string& out) {
    const Json* value = json_.find(key);
    const std::string* text = value != nullptr ? value->as_string() : nullptr;
    if (text == nullptr) return lose();
    out = decode(*text);
  }
  void read(std::string_view key, Strings& out) {
    const Json* value = json_.find(key);
    const Json::Array* array = value != nullptr ? value->as_array() : nullptr;
    if (array == nullptr) return lose();
    for (const Json& item : *array) {
      if (item.as_string() == nullptr) return lose();
      out.push_back(decode(*item.as_string()));
    }
  }
  void read(std::string_view key, bool& out) {
    const Json* value = json_.find(key);
    std::optional<bool> truth = value != nullptr ? value->as_bool() : std::nullopt;
    if (!truth) return lose();
    out = *truth;
  }
  std::int64_t number(std::string_view key) {
    std::optional<std::int64_t> value = optional_number(key);
    if (!value) lose();
    return value.value_or(0);
  }
  std::optional<std::int64_t> optional_number(std::string_view key) const {
    const Json* value = json_.find(key);
    std::optional<std::int64_t> number = value != nullptr ? value->as_signed() : std::nullopt;
    if (number && *number < 0) return {};
    return number;
  }
  bool ok() const { return ok_; }

 private:
  void lose() { ok_ = false; }

  const Json& json_;
  bool ok_ = true;
};

}  // namespace

std::string save_options(const AttachOptions& options) {
  SavedOptions saved;
  saved.options = options;
  return dump(saved);
}

std::string save_options_without_secrets(const AttachOptions& options) {
  SavedOptions saved;
  saved.options = options;
  saved.missing_variables = take_secrets(saved.options.environment);
  for (Strings* texts : {&saved.options.plugin, &saved.options.server_options}) {
    Strings names = take_secrets(*texts);
    saved.missing_parameters.insert(saved.missing_parameters.end(), names.begin(), names.end());
  }
  return dump(saved);
}

Result<SavedOptions> parse_saved_options(std::string_view text) {
  Result<Json> json = Json::parse(text);
  if (!json.ok()) return std::move(json).error();
  Reader reader(json.value());
  SavedOptions saved;
  AttachOptions& options = saved.options;
  auto index = reader.optional_number("index");
  if (index) options.index = static_cast<std::uint32_t>(*index);
  reader.read("read_only", options.read_only);
  options.connections = static_cast<unsigned>(reader.number("connections"));
  reader.read("export", options.export_name);
  // A keeper that did not know of names or metrics has given none.
  if (json.value().find("name") != nullptr) reader.read("name", options.name);
  if (json.value().find("metrics") != nullptr) reader.read("metrics", options.metrics);
  if (json.value().find("scan") != nullptr) reader.read("scan", options.scan);
  if (json.value().find("queue") != nullptr) {
    Strings settings;
    reader.read("queue", settings);
    for (const std::string& setting : settings) {
      Result<std::pair<std::string, std::string>> parsed = parse_queue_setting(setting);
      if (parsed.ok()) options.queue.push_back(std::move(parsed).value());
    }
  }
  options.request_timeout = Seconds(reader.number("request_timeout_s"));
  auto recheck = reader.optional_number("recheck_ms");
  if (recheck) options.recheck = Milliseconds(*recheck);
  options.dead_timeout = Seconds(reader.number("dead_timeout_s"));
  // A keeper that did not know of it has not guarded anything.
  auto swap = reader.optional_number("swap");
  if (swap && *swap <= static_cast<std::int64_t>(SwapMode::force)) {
    options.swap = static_cast<SwapMode>(*swap);
  }
  reader.read("server", options.server);
  reader.read("folder", options.folder);
  reader.read("environment", options.environment);
  auto mask = reader.optional_number("file_mask");
  if (mask) options.file_mask = static_cast<unsigned>(*mask);
  // A keeper that did not know of these has left them as its own.
  const Json* surroundings = json.value().find("surroundings");
  if (surroundings != nullptr) options.surroundings = parse_surroundings(*surroundings);
  reader.read("user", options.user);
  reader.read("group", options.group);
  reader.read("filters", options.filters);
  reader.read("server_options", options.server_options);
  reader.read("plugin", options.plugin);
  reader.read("missing_parameters", saved.missing_parameters);
  reader.read("missing_variables", saved.missing_variables);
  bool sound = reader.ok() && !options.plugin.empty() && options.connections > 0 &&
               options.connections <= AttachOptions::kConnectionsMax;
  if (sound) return saved;
  return Error(std::errc::protocol_error, "what the device was attached with cannot be read");
}

std::string_view first_difference(const AttachOptions& kept, const AttachOptions& given) {
  if (kept.plugin != given.plugin) return "plugin or parameters";
  if (kept.filters != given.filters) return "filters";
  if (kept.export_name != given.export_name) return "export";
  if (kept.read_only != given.read_only) return "access";
  if (kept.folder != given.folder) return "working directory";
  if (kept.server != given.server) return "server";
  if (kept.server_options != given.server_options) return "server options";
  if (kept.user != given.user || kept.group != given.group) return "user or group";
  if (kept.connections != given.connections) return "number of connections";
  if (kept.swap != given.swap) return "guards of swap";
  if (kept.scan != given.scan) return "permission to scan";
  if (kept.queue != given.queue) return "settings of the queue";
  if (kept.metrics != given.metrics) return "address of the metrics";
  bool same_times = kept.request_timeout == given.request_timeout &&
                    kept.recheck == given.recheck && kept.dead_timeout == given.dead_timeout;
  return same_times ? "" : "timeouts";
}

Result<UniqueFd> seal(std::string_view text) {
  UniqueFd file(::memfd_create("nbdkit-start", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) return os_error("memfd_create");
  while (!text.empty()) {
    ssize_t written = ::write(file.get(), text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return os_error("memfd_create");
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  if (::fcntl(file.get(), F_ADD_SEALS, kSeals) < 0) return os_error("F_ADD_SEALS");
  return file;
}

Result<std::string> read_sealed(int fd) {
  int seals = ::fcntl(fd, F_GET_SEALS);
  struct stat status;
  bool sound = seals >= 0 && (seals & F_SEAL_WRITE) != 0 && ::fstat(fd, &status) == 0 &&
               status.st_uid == ::geteuid();
  if (!sound) return Error(std::errc::invalid_argument, "the descriptor is not a sealed one");
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    ssize_t length = ::pread(fd, text.data() + done, text.size() - done, static_cast<off_t>(done));
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) return os_error("memfd");
    done += static_cast<std::size_t>(length);
  }
  return text;
}

}  // namespace nbdkit
