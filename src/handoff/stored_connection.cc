// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/stored_connection.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <limits>
#include <utility>

#include "base/json.h"
#include "handoff/request_keys.h"

namespace nbdkit {
namespace {

constexpr std::string_view kNamePrefix = "nbdkit-connection-";
constexpr std::uint64_t kVersion = 1;
constexpr off_t kFileMax = 64 * 1024;
constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

Error bad(std::string text) { return Error(std::errc::invalid_argument, std::move(text)); }

Json to_json(const StoredConnection& connection) {
  Json body = Json::object();
  body.set("version", kVersion)
      .set("user", connection.owner ? Json(*connection.owner) : Json())
      .set("identity", connection.identity)
      .set("serve", to_json(connection.serve));
  return body;
}

Result<std::string> read_all(int file) {
  // Only memory files have seals, and one that has all of them does not change under our eyes.
  int seals = ::fcntl(file, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) return bad("it is no sealed memory file");
  struct stat status;
  if (::fstat(file, &status) != 0) return os_error("fstat");
  if (status.st_size > kFileMax) {
    return bad(fmt::format("it has {} bytes, more than {}", status.st_size, kFileMax));
  }
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  ssize_t length = ::pread(file, text.data(), text.size(), 0);
  if (length != status.st_size) return os_error("pread");
  return text;
}

}  // namespace

StoredConnection to_stored(const MovedConnection& moved, std::optional<uid_t> owner) {
  StoredConnection connection;
  connection.serve.export_name = moved.export_name;
  connection.serve.kernel = moved.kernel;
  connection.serve.size = moved.info.size;
  connection.serve.flags = moved.info.transmission_flags;
  connection.serve.state = HandoffState{moved.agreement, moved.unread};
  connection.owner = owner;
  connection.identity = moved.info.identity;
  return connection;
}

std::string stored_name(ConnectionId id) { return fmt::format("{}{}", kNamePrefix, id); }

bool is_stored_name(std::string_view name) { return name.starts_with(kNamePrefix); }

Result<UniqueFd> write_stored(const StoredConnection& connection) {
  const std::string text = to_json(connection).dump();
  UniqueFd file(::memfd_create("nbdkit-connection", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) return os_error("memfd_create");
  ssize_t written = ::write(file.get(), text.data(), text.size());
  if (written != static_cast<ssize_t>(text.size())) return os_error("memory file");
  if (::fcntl(file.get(), F_ADD_SEALS, kSeals) != 0) return os_error("F_ADD_SEALS");
  return file;
}

Result<StoredConnection> read_stored(int file) {
  Result<std::string> text = read_all(file);
  if (!text.ok()) return std::move(text).error();
  Result<Json> body = Json::parse(text.value());
  if (!body.ok()) return std::move(body).error();
  NBDKIT_TRY(only_keys(body.value(), {"version", "user", "identity", "serve"}));
  Result<std::uint64_t> version =
      number_key(body.value(), "version", kVersion, kVersion, std::nullopt);
  if (!version.ok()) return std::move(version).error();
  StoredConnection connection;
  const Json* user = body.value().find("user");
  if (user != nullptr && !user->is_null()) {
    Result<std::uint64_t> number = number_key(
        body.value(), "user", 0, std::numeric_limits<std::uint32_t>::max() - 1, std::nullopt);
    if (!number.ok()) return std::move(number).error();
    connection.owner = static_cast<uid_t>(number.value());
  }
  const Json* identity = body.value().find("identity");
  if (identity == nullptr || identity->as_string() == nullptr) {
    return bad_value("identity", "a text");
  }
  connection.identity = *identity->as_string();
  const Json* serve = body.value().find("serve");
  if (serve == nullptr || serve->as_object() == nullptr) return bad_value("serve", "an object");
  Result<HandoffServe> parsed = parse_serve(*serve);
  if (!parsed.ok()) return std::move(parsed).error();
  connection.serve = std::move(parsed).value();
  if (!connection.serve.state) return bad_value("state", "there");
  return connection;
}

}  // namespace nbdkit
