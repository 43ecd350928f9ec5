// SPDX-License-Identifier: BSD-3-Clause
// A device goes on without its keeper: driver and server have the sockets. What the next keeper
// needs is in the run folder, without secrets, and in descriptors that the server holds; neither
// knows of the keeper's end.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "attach/attachment.h"
#include "attach/dead_timeout.h"
#include "attach/keeper_identity.h"
#include "handoff/handoff_door.h"
#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

Error another(std::string sentence) {
  return attach_error(ExitCode::identity_mismatch, std::move(sentence));
}

std::uint64_t number_of(const Json& json, std::string_view key) {
  const Json* value = json.find(key);
  return value != nullptr ? value->as_unsigned().value_or(0) : 0;
}

bool truth_of(const Json& json, std::string_view key) {
  const Json* value = json.find(key);
  return value != nullptr && value->as_bool().value_or(false);
}

const Json::Array& items_of(const Json& json, std::string_view key) {
  static const Json::Array kNone;
  const Json* value = json.find(key);
  return value != nullptr && value->as_array() != nullptr ? *value->as_array() : kNone;
}

bool has_content(int fd) {
  struct stat status;
  return fd >= 0 && ::fstat(fd, &status) == 0 && status.st_size > 0;
}

std::optional<LivingServer> find_server(const Json& state, const Json& handover) {
  auto pid = static_cast<pid_t>(number_of(state, "server_pid"));
  if (pid <= 0) return {};
  return LivingServer::find(pid, number_of(handover, "server_start_time"));
}

std::string list_of(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

// What is missing in the file may be here again: a service's environment, the same arguments.
void fill_in(SavedOptions& saved, const AttachOptions& given) {
  AttachOptions& options = saved.options;
  std::erase_if(saved.missing_variables, [&](const std::string& name) {
    auto found =
        std::find_if(given.environment.begin(), given.environment.end(),
                     [&](const std::string& variable) { return variable.starts_with(name + "="); });
    if (found == given.environment.end()) return false;
    options.environment.push_back(*found);
    return true;
  });
  if (saved.missing_parameters.empty() || given.plugin.empty()) return;
  saved.missing_parameters.clear();
  options.filters = given.filters;
  options.server_options = given.server_options;
  options.plugin = given.plugin;
}

}  // namespace

bool Attachment::is_to_adopt() const {
  if (!options_.reattach) return false;
  Result<NbdDevice> device = sysfs_.device(*index_);
  return options_.plugin.empty() || (device.ok() && device.value().attached());
}

Task<void> Attachment::adopt() {
  spared_ = true;
  Result<void> taken = co_await take_over().as_result();
  if (interrupted_) co_await fail(Error(std::errc::operation_canceled, "interrupted"));
  if (!taken.ok()) co_await fail(std::move(taken).error());
  if (!remote_) dead_ = options_.connections - static_cast<unsigned>(server_ends_.size());
  if (dead_ > 0)
    tell_of_dead(fmt::format("{} of {} connections lost", dead_, options_.connections));
  spared_ = false;
  attached_ = true;
  made_ = true;
  served_since_ = loop_.now();
  server_->is_ready();
  watch_connections();
  watch_size();
  watch_performance();
  keep_spare();
  if (!server_->end().empty()) server_ended();
  if (dead_ > 0) begin_replacing();
}

// Until this has succeeded, nothing that is there is changed.
Task<void> Attachment::take_over() {
  co_await open_control(nullptr);
  Result<RunFolder> folder = RunFolder::open();
  if (!folder.ok()) co_await fail(std::move(folder).error());
  folder_.emplace(std::move(folder).value());
  Result<void> locked = take_lock();
  if (!locked.ok()) co_await fail(std::move(locked).error());
  Result<Json> state = read_handover();
  if (!state.ok()) co_await fail(std::move(state).error());
  Result<void> understood = understand(state.value());
  if (!understood.ok()) co_await fail(std::move(understood).error());
  Result<void> listening = listen_to_events();
  if (listening.ok()) listening = orphans_.adopt();
  if (!listening.ok()) co_await fail(std::move(listening).error());

  const Json& handover = *state.value().find("handover");
  std::optional<LivingServer> server = find_server(state.value(), handover);
  Result<void> read = read_options(handover, server ? &*server : nullptr);
  if (!read.ok()) co_await fail(std::move(read).error());
  if (RemoteSource::is_meant(options_)) {
    co_await adopt_remote();
    co_return;
  }
  Result<void> opened = ServerLock::open(*folder_, *index_, server_lock_);
  if (!opened.ok()) co_await fail(std::move(opened).error());
  if (!server) {
    co_await start_successor(handover);
    co_return;
  }
  Result<void> adopted = adopt_server(handover, std::move(*server));
  if (!adopted.ok()) co_await fail(std::move(adopted).error());
}

// The state that the last keeper has left, if it is about this very attachment.
Result<Json> Attachment::read_handover() const {
  Result<NbdDevice> device = sysfs_.device(*index_);
  if (!device.ok()) return std::move(device).error();
  if (!device.value().attached()) {
    return attach_error(ExitCode::not_attached,
                        fmt::format("{}: nothing is attached to it", device.value().node()));
  }
  Result<std::string> text = folder_->read_state(*index_);
  Result<Json> state =
      text.ok() ? Json::parse(text.value()) : Result<Json>(std::move(text).error());
  bool ours = state.ok() && state.value().find("handover") != nullptr;
  if (ours) {
    const Json* boot = state.value().find("boot_id");
    const Json* backend = state.value().find("backend");
    ours = boot != nullptr && *boot == Json(boot_id()) && backend != nullptr &&
           !device.value().backend.empty() && *backend == Json(device.value().backend);
  }
  if (ours) return state;
  return another(
      fmt::format("{} was not attached by a keeper that has left anything behind, so "
                  "nobody knows how it is served",
                  device.value().node()));
}

Result<void> Attachment::understand(const Json& state) {
  const Json* info = state.find("handover")->find("export");
  if (info == nullptr) return another("the last keeper has not said what is served");
  Result<HandoffExport> parsed = parse_export(*info);
  if (!parsed.ok()) return std::move(parsed).error();
  export_ = std::move(parsed).value();
  served_ = export_;
  backend_ = *state.find("backend")->as_string();
  const Json* log = state.find("handover")->find("kernel_log");
  if (log != nullptr) log_begin_ = log->as_unsigned();
  const Json* requests = state.find("handover")->find("requests");
  if (requests != nullptr) suspects_.restore(*requests);
  restarts_ = number_of(state, "restarts");
  upgrades_ = number_of(state, "upgrades");
  const Json* error = state.find("last_error");
  if (error != nullptr && error->as_string() != nullptr) last_error_ = *error->as_string();
  return {};
}

UniqueFd Attachment::find_stored(const HeldFile& file) {
  for (UniqueFd& fd : stored_) {
    if (fd && file.is_same_file(fd.get())) return std::move(fd);
  }
  return {};
}

Result<void> Attachment::read_options(const Json& handover, const LivingServer* server) {
  std::optional<HeldFile> start = parse_held_file(handover.find("start"));
  std::optional<HeldFile> memory = parse_held_file(handover.find("memory"));
  if (start && server != nullptr) start_ = server->open(*start, O_RDONLY);
  if (start && !start_) start_ = find_stored(*start);
  if (memory && server != nullptr) kept_memory_ = server->open(*memory, O_RDWR);
  if (memory && !kept_memory_) kept_memory_ = find_stored(*memory);

  Result<std::string> text = start_ ? read_sealed(start_.get()) : folder_->read_start(*index_);
  if (!text.ok()) return std::move(text).error();
  Result<SavedOptions> parsed = parse_saved_options(text.value());
  if (!parsed.ok()) return std::move(parsed).error();
  SavedOptions saved = std::move(parsed).value();
  fill_in(saved, options_);
  if (!saved.missing_variables.empty()) {
    log_.warning("",
                 "/dev/nbd{}: variables that may be secrets were only in the memory of the "
                 "server: {}",
                 *index_, list_of(saved.missing_variables));
  }
  stored_.clear();
  AttachOptions given = std::exchange(options_, std::move(saved.options));
  options_.index = index_;
  options_.reattach = given.reattach;
  options_.force = given.force;
  options_.verbose = given.verbose;
  options_.foreground = given.foreground;
  missing_ = list_of(saved.missing_parameters);
  if (start_) return {};
  Result<UniqueFd> sealed = seal(save_options(options_));
  if (!sealed.ok()) return std::move(sealed).error();
  start_ = std::move(sealed).value();
  return {};
}

Result<void> Attachment::adopt_server(const Json& handover, LivingServer server) {
  if (!kept_memory_) {
    return another(fmt::format("process {} does not hold what its keeper gave it", server.pid()));
  }
  adopt_descriptors(handover, server);
  ServerDescriptors numbers;
  std::optional<HeldFile> start = parse_held_file(handover.find("start"));
  std::optional<HeldFile> memory = parse_held_file(handover.find("memory"));
  std::optional<HeldFile> program = parse_held_file(handover.find("program"));
  std::optional<HeldFile> ledger = parse_held_file(handover.find("ledger"));
  if (start) numbers.options = start->number;
  if (memory) numbers.memory = memory->number;
  if (program) numbers.program = program->number;
  if (ledger) numbers.requests = ledger->number;
  if (ledger) traces_.ledger = server.open(*ledger, O_RDONLY);
  if (program) program_ = server.open(*program, O_PATH);
  if (!program_) {
    return another(fmt::format("process {} does not hold its program", server.pid()));
  }
  for (const Json& inode : items_of(handover, "connections")) {
    Result<UniqueFd> end = server.take_socket(inode.as_unsigned().value_or(0));
    if (!end.ok()) return std::move(end).error();
    if (end.value()) server_ends_.push_back(std::move(end).value());
  }
  drop_refused_connections();
  pid_t pid = server.pid();
  UniqueFd words = server.words();
  Result<UniqueFd> control =
      connect_handoff(folder_->path_of(RunFolder::file_name(*index_, RunFolder::kHandoff)));
  if (!control.ok()) log_.warning("", "{}; it cannot be upgraded", control.error().message());
  return server_->adopt(pid, server.take_process(), std::move(words),
                        control.ok() ? std::move(control).value() : UniqueFd(), numbers,
                        [this] { server_ended(); });
}

void Attachment::adopt_descriptors(const Json& handover, const LivingServer& server) {
  for (const Json& item : items_of(handover, "named")) {
    std::optional<HeldFile> file = parse_held_file(&item);
    if (!file) continue;
    UniqueFd fd = server.take(*file);
    if (fd) named_[file->number] = std::move(fd);
  }
}

// The server has gone with its keeper.
Result<void> Attachment::check_can_start(const Json& handover) const {
  std::string node = fmt::format("/dev/nbd{}", *index_);
  constexpr std::string_view kLost =
      "{}: its server has ended too, and answered writes were in {} and are gone: the device is "
      "lost; free it with --detach --force";
  bool lost = state_after_server_end(export_.survives, export_.read_only()) == DeviceState::lost;
  if (lost) return another(fmt::format(kLost, node, "the server's memory"));
  if (truth_of(handover, "memory_used") && !kept_memory_ && !export_.read_only()) {
    return another(fmt::format(kLost, node, "memory that both had held"));
  }
  if (!missing_.empty()) {
    return attach_error(
        ExitCode::not_supported,
        fmt::format("{}: its server has ended too, and these parameters, secrets, were only in its "
                    "memory: {}; give them again: --reattach {} PLUGIN KEY=VALUE...",
                    node, missing_, node));
  }
  if (named_descriptors(options_).empty()) return {};
  return attach_error(ExitCode::not_supported,
                      fmt::format("{}: its server has ended too, and with it the descriptors that "
                                  "it was given (fd=, dirfd=)",
                                  node));
}

Task<void> Attachment::start_successor(const Json& handover) {
  Result<void> can = check_can_start(handover);
  if (can.ok()) can = check_dead_timeout(options_.force);
  if (!can.ok()) co_await fail(std::move(can).error());
  if (!kept_memory_) kept_memory_.reset(::memfd_create("nbdkit-kept", MFD_CLOEXEC));
  if (!kept_memory_) co_await fail(os_error("memfd_create"));
  program_.reset(::open(options_.server.c_str(), O_PATH | O_CLOEXEC));
  last_error_ = "the server and its keeper have ended";
  co_await end_server();
  Result<void> back = co_await bring_back().as_result();
  if (back.ok()) {
    ++restarts_;
    log_begin_ = end_of_kernel_log();
    co_return;
  }
  co_await server_->stop(true);
  co_await fail(std::move(back).error());
}

// For another keeper, should this one die.
Result<void> Attachment::leave_files() {
  files_missing_ = true;
  if (server_lock_) NBDKIT_TRY(server_lock_->name(*folder_, *index_));
  NBDKIT_TRY(folder_->write_start(*index_, save_options_without_secrets(options_)));
  files_missing_ = false;
  return {};
}

Result<void> Attachment::leave_missing_files() {
  if (!files_missing_) return {};
  return leave_files();
}

AttachmentStatus Attachment::status() const {
  AttachmentStatus status;
  Result<NbdDevice> device = sysfs_.device(*index_);
  if (device.ok()) status.device = std::move(device).value();
  status.device.index = *index_;
  status.state = state_;
  status.reason = reason_;
  status.pid = ::getpid();
  status.server_pid = server_->pid();
  status.connections = options_.connections;
  status.connections_dead = dead_;
  status.restarts = restarts_;
  status.upgrades = upgrades_;
  for (const LedgerRequest& request : suspects_.refused()) {
    status.refused.push_back(describe(request));
  }
  status.last_error = last_error_;
  Result<std::vector<Guard>> guards = parse_guards(served_.guards);
  if (guards.ok()) status.guards = std::move(guards).value();
  status.plugin = remote_ ? options_.plugin.front() : plugin_name(options_);
  status.filters = filter_names(options_);
  status.export_name = options_.export_name;
  status.name = options_.name;
  status.survives = survives_name(export_.survives);
  status.identity = export_.identity;
  status.request_timeout_s = static_cast<std::uint64_t>(options_.request_timeout.count());
  status.dead_timeout_s = static_cast<std::uint64_t>(options_.dead_timeout.count());
  return status;
}

Json Attachment::handover() const {
  Json connections = Json::array();
  for (const UniqueFd& end : server_ends_) connections.push(socket_inode(end.get()));
  Json named = Json::array();
  for (int number : named_descriptors(options_)) {
    auto found = named_.find(number);
    int fd = found != named_.end() ? found->second.get() : number;
    named.push(to_json(HeldFile::of(fd, number)));
  }
  const ServerDescriptors& numbers = server_->numbers();
  auto pid = static_cast<pid_t>(server_->pid().value_or(0));
  Json json = Json::object();
  json.set("server_start_time", pid > 0 ? process_start_time(pid) : 0)
      .set("start", to_json(HeldFile::of(start_.get(), numbers.options)))
      .set("memory", to_json(HeldFile::of(kept_memory_.get(), numbers.memory)))
      .set("memory_used", has_content(kept_memory_.get()))
      .set("program", to_json(HeldFile::of(program_.get(), numbers.program)))
      .set("ledger", to_json(HeldFile::of(traces_.ledger.get(), numbers.requests)))
      .set("requests", suspects_.save())
      .set("named", std::move(named))
      .set("connections", std::move(connections))
      .set("kernel_log", log_begin_ ? Json(*log_begin_) : Json())
      .set("export", to_json(export_));
  return json;
}

std::vector<int> Attachment::files_to_store() const {
  if (remote_) return {start_.get()};
  return {start_.get(), kept_memory_.get()};
}

// Its successor finds the state as it was last written.
Task<void> Attachment::let_go() {
  spared_ = true;
  co_await close();
}

}  // namespace nbdkit
