// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/connection_store.h"

#include <fmt/format.h>

#include <array>
#include <map>
#include <memory>

#include "base/check.h"
#include "handoff/descriptor_rules.h"
#include "handoff/serve_options.h"

namespace nbdkit {
namespace {

Result<void> check_stored(const StoredConnection& connection, const ExportInfo& info) {
  if (connection.identity != info.identity) {
    return Error(std::errc::invalid_argument,
                 fmt::format("the data is another: it was '{}' and is '{}'", connection.identity,
                             info.identity));
  }
  return check_expectation(connection.serve, info);
}

}  // namespace

Task<void> ConnectionStore::store_all() {
  auto all = [](const ConnectionView&) { return true; };
  for (const ConnectionView* next = server_.next(0, all); next != nullptr;) {
    const ConnectionId id = next->id;
    next = server_.next(id, all);
    NBDKIT_CHECK(storing_.enter());
    finish(store(id), [this, id](Result<void> stored) {
      if (stored.ok()) ++stored_;
      if (!stored.ok()) log_.debug("", "connection {} ends: {}", id, stored.error().message());
      storing_.leave();
    });
  }
  co_await storing_.drained();
  if (stored_ == 0) co_return;
  auto wait = [this] { return manager_.barrier(kBarrierMax); };
  Result<void> taken = co_await loop_.blocking(std::move(wait)).as_result();
  if (!taken.ok()) log_.error("", "connections may be lost: {}", taken.error().message());
  log_.debug("", "{} connections wait for the next server", stored_);
}

Task<void> ConnectionStore::store(ConnectionId id) {
  std::optional<uid_t> owner = server_.find(id)->owner;
  MovedConnection moved = co_await server_.take_over(id, Server::kDrainMax);
  Result<void> given = give(id, moved, owner);
  // The manager has one of its own. Closing what came from others may take time.
  loop_.close_elsewhere(std::move(moved.socket));
  if (given.ok()) co_return;
  log_.error("", "connection {} is lost: {}", id, given.error().message());
  co_await fail(std::move(given).error());
}

Result<void> ConnectionStore::give(ConnectionId id, MovedConnection& moved,
                                   std::optional<uid_t> owner) {
  Result<UniqueFd> file = write_stored(to_stored(moved, owner));
  if (!file.ok()) return std::move(file).error();
  // Both in one message, so that there is never one without the other. FDPOLL=0: a client that
  // leaves meanwhile may have sent requests that are to be carried out.
  const std::array<int, 2> both{moved.socket.get(), file.value().get()};
  return manager_.send(fmt::format("FDSTORE=1\nFDPOLL=0\nFDNAME={}", stored_name(id)), both);
}

void ConnectionStore::restore(std::vector<NamedFd> kept) {
  std::map<std::string, std::vector<UniqueFd>> by_name;
  for (NamedFd& one : kept) by_name[one.name].push_back(std::move(one.fd));
  for (auto& [name, descriptors] : by_name) {
    Result<void> restored = restore_one(name, std::move(descriptors));
    if (!restored.ok()) log_.error("", "{} is lost: {}", name, restored.error().message());
  }
}

Result<void> ConnectionStore::restore_one(const std::string& name,
                                          std::vector<UniqueFd> descriptors) {
  NBDKIT_TRY(manager_.send(fmt::format("FDSTOREREMOVE=1\nFDNAME={}", name)));
  if (descriptors.size() != 2) {
    return Error(std::errc::invalid_argument,
                 fmt::format("there are {} descriptors instead of 2", descriptors.size()));
  }
  if (!socket_kind(descriptors[0].get()).ok()) std::swap(descriptors[0], descriptors[1]);
  Result<StoredConnection> read = read_stored(descriptors[1].get());
  if (!read.ok()) return std::move(read).error();
  auto connection = std::make_shared<const StoredConnection>(std::move(read).value());
  StartOptions options = start_options(connection->serve, connection->owner);
  options.accept = [connection](const ExportInfo& info) { return check_stored(*connection, info); };
  NBDKIT_CHECK(restoring_.enter());
  auto report = [this, name](Result<Started> started) {
    if (!started.ok()) log_.error("", "{} is lost: {}", name, started.error().message());
    restoring_.leave();
  };
  finish(server_.start(std::move(descriptors[0]), std::move(options)), report);
  return {};
}

}  // namespace nbdkit
