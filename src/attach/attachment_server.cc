// SPDX-License-Identifier: BSD-3-Clause
// What a device's server is started with, and how it gets the device's connections.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <utility>

#include "attach/attachment.h"
#include "handoff/handoff_door.h"

namespace nbdkit {

Task<void> Attachment::start_server() {
  kept_memory_.reset(::memfd_create("nbdkit-kept", MFD_CLOEXEC));
  if (!kept_memory_) co_await fail(os_error("memfd_create"));
  // Successors are to be this very program. One that is missing is told when it is started.
  program_.reset(::open(options_.server.c_str(), O_PATH | O_CLOEXEC));
  Result<void> adopting = orphans_.adopt();
  if (!adopting.ok()) co_await fail(std::move(adopting).error());
  Result<UniqueFd> saved = seal(save_options(options_));
  if (!saved.ok()) co_await fail(std::move(saved).error());
  start_ = std::move(saved).value();
  Result<ServerLock> lock = ServerLock::create(*folder_);
  if (!lock.ok()) co_await fail(std::move(lock).error());
  server_lock_.emplace(std::move(lock).value());
  Result<void> started = start_new();
  if (!started.ok()) co_await fail(std::move(started).error());
  HandoffExport info = co_await ask_server();
  export_ = info;
  served_ = std::move(info);
}

Result<void> Attachment::start_process(ServerProcess& server, const ServerStart& from,
                                       Traces& traces) {
  Result<UniqueFd> taken = from.lock.take();
  if (!taken.ok()) return std::move(taken).error();
  traces.door = RunFolder::door_name(index_);
  Result<UniqueFd> listening = listen_handoff(folder_->path_of(traces.door), 0600);
  if (!listening.ok()) return std::move(listening).error();
  Result<UniqueFd> ledger = RequestLedger::create(from.marked);
  if (!ledger.ok()) return std::move(ledger).error();
  traces.ledger = std::move(ledger).value();
  ServerResources resources{from.program, kept_memory_.get(),      taken.value().get(),
                            from.start,   listening.value().get(), traces.ledger.get()};
  for (const auto& [number, fd] : named_) resources.named[number] = fd.get();
  return server.start(from.options, resources, [this] { server_ended(); });
}

// Until then the device's number may not be known, or another server may have the place.
void Attachment::name_door() {
  std::string name = RunFolder::file_name(*index_, RunFolder::kHandoff);
  Result<void> named = folder_->rename_file(traces_.door, name);
  if (!named.ok()) log_.error("", "{}", named.error().message());
  traces_.door.clear();
}

Result<void> Attachment::start_new() {
  ServerStart from{options_, program_.get(), start_.get(), *server_lock_, suspects_.marked()};
  return start_process(*server_, from, traces_);
}

Task<HandoffExport> Attachment::ask_server() {
  HandoffQuery query;
  query.export_name = options_.export_name;
  query.kernel = true;
  Result<HandoffExport> info = co_await server_->handoff().query(query).as_result();
  if (!info.ok() && !interrupted_) co_await server_->explain(std::move(info).error());
  if (!info.ok()) co_await fail(std::move(info).error());
  co_return std::move(info).value();
}

// As many as are missing.
Task<void> Attachment::give_connections(std::vector<UniqueFd>& kernel_ends) {
  const std::size_t served = server_ends_.size();
  while (server_ends_.size() < options_.connections) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
      co_await fail(os_error("socketpair"));
    }
    kernel_ends.emplace_back(ends[0]);
    server_ends_.emplace_back(ends[1]);
  }
  if (!made_ && !options_.scan) {
    Result<void> shielded = raise_shield();
    if (!shielded.ok()) co_await fail(std::move(shielded).error());
    co_return;
  }
  co_await serve_connections(served);
}

// All but the first ones.
Task<void> Attachment::serve_connections(std::size_t first) {
  HandoffServe serve;
  serve.export_name = options_.export_name;
  serve.kernel = true;
  serve.size = served_.size;
  serve.flags = export_.transmission_flags;
  for (std::size_t i = first; i < server_ends_.size(); ++i) {
    int end = server_ends_[i].get();
    Result<HandoffServed> served = co_await server_->handoff().serve(end, serve).as_result();
    if (!served.ok() && !interrupted_) co_await server_->explain(std::move(served).error());
    if (!served.ok()) co_await fail(std::move(served).error());
  }
}

}  // namespace nbdkit
