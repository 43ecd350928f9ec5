// SPDX-License-Identifier: BSD-3-Clause
// nbdkit: serves a plugin under a stack of filters to NBD clients. The order of what happens here
// is what plugins count on (nbdkit-plugin(3)), and no thread exists before the last fork.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/log_topics.h"
#include "base/notify_socket.h"
#include "block/layer_stack.h"
#include "handoff/descriptor_rules.h"
#include "main/nbdkit_activation.h"
#include "main/nbdkit_captive.h"
#include "main/nbdkit_debug.h"
#include "main/nbdkit_describe.h"
#include "main/nbdkit_log.h"
#include "main/nbdkit_modules.h"
#include "main/nbdkit_options.h"
#include "main/nbdkit_parameter_files.h"
#include "main/nbdkit_process.h"
#include "main/nbdkit_service.h"
#include "main/nbdkit_signals.h"
#include "main/nbdkit_sockets.h"

namespace nbdkit {
namespace {

using Action = Options::Action;

int print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  return std::fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// One run of the program with a plugin, from its options to its exit status.
class Program {
 public:
  Program(const Options& options, const Folders& folders, ServerLog& log,
          const NotifySocket& manager, Activation activation)
      : options_(options),
        folders_(folders),
        log_(log),
        manager_(manager),
        activation_(std::move(activation)),
        environment_{
            log, {}, [this] { ask_to_stop(); }, options.single, options.swap != SwapMode::off},
        host_(log, hooks()) {}

  int run();

 private:
  // Steps of the start; an Error is the program's last line.
  Result<void> load();
  Result<void> make_ready();
  Result<void> open_sockets_and_fork();
  Result<void> fork_captive();
  Result<void> go_to_background();
  Result<void> open_doors(Service& service);
  Result<void> announce();
  Result<void> become();
  Result<void> guard_stack(Service& service);
  void tell_manager(std::string_view assignments) const;
  void trace(std::string_view step) const;
  Result<void> adopt(const std::optional<int>& number, std::string_view option, UniqueFd& owner);

  int live();
  Result<Service::End> serve();
  int fail(const Error& error);
  [[noreturn]] void be_captive_parent(Child server);
  [[noreturn]] void leave(int status);
  void remove_folder();

  PluginHost::Hooks hooks();
  void ask_to_stop();

  const Options& options_;
  const Folders& folders_;
  ServerLog& log_;
  const NotifySocket& manager_;
  Activation activation_;
  const pid_t parent_ = ::getppid();
  std::vector<UniqueFd> controls_;  // as options_.handoff.fds
  std::vector<UniqueFd> given_;     // as options_.handoff.given
  std::unique_ptr<RequestLedger> ledger_;
  Environment environment_;
  std::atomic<bool> stop_asked_{false};  // by the plugin, perhaps before the service is there
  PluginHost host_;
  LayerStack stack_{environment_};
  std::optional<Identity> identity_;
  std::optional<StandardStreams> streams_;
  std::optional<StopSignals> signals_;
  std::optional<Sockets> sockets_;
  std::optional<Child> self_;        // in a forked child: who waits for it
  std::optional<pid_t> captive_of_;  // in the server of --run: its parent
  bool background_ = false;
  Guards guards_;
};

Guard unfit_layer(const std::string& name) {
  return {"layer", "fit for swap", name,
          fmt::format("{} may need memory, a program or the page cache for a request", name),
          "another plugin or filter; file with direct=true"};
}

int Program::fail(const Error& error) {
  bool limit = error.code == std::errc::too_many_files_open;
  log_.error("", "{}{}", error.message(), limit ? " (the limit is that of 'ulimit -n')" : "");
  return EXIT_FAILURE;
}

PluginHost::Hooks Program::hooks() {
  PluginHost::Hooks hooks;
  hooks.shutdown = environment_.shut_down;
  hooks.stdio_is_client = options_.single;
  hooks.name = options_.name;
  return hooks;
}

void Program::ask_to_stop() {
  stop_asked_ = true;
  StopSignals::ask_to_stop();
}

// Of --run the parent removes it, as long as there is one: its server may be killed.
void Program::remove_folder() {
  if (!sockets_) return;
  if (captive_of_ == ::getppid()) sockets_->folder.forget();
  sockets_->folder.remove();
}

// Without destructors: others still use what this process shares with them.
void Program::leave(int status) {
  log_.end_elsewhere();
  remove_folder();
  std::fflush(stdout);
  ::_exit(status);
}

// The process that the manager has started does it: others it need not believe.
void Program::tell_manager(std::string_view assignments) const {
  Result<void> told = manager_.send(assignments);
  if (!told.ok()) log_.warning("", "{}", told.error().message());
}

// The steps of the layers' life, which authors of plugins follow in the debug messages.
void Program::trace(std::string_view step) const {
  if (!traces_control_path(log_)) return;
  const auto& entries = stack_.entries();
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    log_.debug("", "{}: {}", entry->name, step);
  }
}

Result<void> Program::adopt(const std::optional<int>& number, std::string_view option,
                            UniqueFd& owner) {
  if (!number) return {};
  if (::fcntl(*number, F_SETFD, FD_CLOEXEC) != 0) {
    return Error(std::errc::bad_file_descriptor,
                 fmt::format("{}: {} is not an open descriptor", option, *number));
  }
  owner.reset(*number);
  return {};
}

Result<void> Program::load() {
  for (int fd : options_.handoff.fds) {
    NBDKIT_TRY(adopt(fd, "--handoff-fd", controls_.emplace_back()));
  }
  for (const GivenSocket& given : options_.handoff.given) {
    NBDKIT_TRY(adopt(given.fd, "--fd", given_.emplace_back()));
    Result<void> usable = check_stream_socket(given.fd);
    if (!usable.ok()) {
      return Error(usable.error().code,
                   fmt::format("--fd {}: {}", given.fd, usable.error().message()));
    }
    if (given.transmission && options_.tls.required() && crosses_a_network(given.fd)) {
      return Error(
          std::errc::operation_not_permitted,
          fmt::format("--fd {}: with --tls=require a socket of a network needs a handshake "
                      "(mode=handshake)",
                      given.fd));
    }
  }
  NBDKIT_TRY(adopt(options_.kept_memory_fd, "--kept-memory-fd", environment_.kept_memory));
  UniqueFd ledger;
  NBDKIT_TRY(adopt(options_.request_ledger_fd, "--request-ledger-fd", ledger));
  if (ledger) {
    Result<std::unique_ptr<RequestLedger>> opened = RequestLedger::open(std::move(ledger));
    if (!opened.ok()) {
      return Error(opened.error().code,
                   fmt::format("--request-ledger-fd: {}", opened.error().message()));
    }
    ledger_ = std::move(opened).value();
  }
  if (options_.exit_with_parent) stop_with_parent(parent_);
  return load_stack(options_, folders_, stack_, host_);
}

Result<void> Program::make_ready() {
  Result<Identity> identity = Identity::find(options_);
  if (!identity.ok()) return std::move(identity).error();
  identity_ = std::move(identity).value();
  trace("config_complete");
  NBDKIT_TRY(stack_.configured());
  log_.debug("", "using thread model: {}", thread_model(stack_));
  trace("get_ready");
  NBDKIT_TRY(stack_.get_ready());

  Result<StandardStreams> streams = StandardStreams::replace();
  if (!streams.ok()) return std::move(streams).error();
  streams_ = std::move(streams).value();
  Result<StopSignals> signals = StopSignals::install();
  if (!signals.ok()) return std::move(signals).error();
  signals_.emplace(std::move(signals).value());
  host_.started();
  return {};
}

// In the parent. What it holds of the server goes first: when the server has ended, clients are to
// be refused and not left waiting.
void Program::be_captive_parent(Child server) {
  sockets_->listening.clear();
  if (!server.wait_until_ready(log_)) leave(EXIT_FAILURE);
  tell_manager("READY=1");
  leave(run_captive(sockets_->address, *options_.run, std::move(*streams_), server, log_));
}

Result<void> Program::fork_captive() {
  const pid_t parent = ::getpid();
  Result<Child> child = Child::fork();
  if (!child.ok()) return std::move(child).error();
  if (child.value().pid() != 0) be_captive_parent(std::move(child).value());
  self_.emplace(std::move(child).value());
  captive_of_ = parent;
  NBDKIT_TRY(signals_->renew());
  // The command may need the server for its own orderly end; the parent ends the server then.
  StopSignals::ignore_terminal();
  log_.debug("", "forked into background (new pid = {})", ::getpid());
  NBDKIT_TRY(become());
  stop_with_parent(parent);
  return {};
}

Result<void> Program::go_to_background() {
  Result<Child> child = Child::fork();
  if (!child.ok()) return std::move(child).error();
  if (child.value().pid() != 0) {
    if (!child.value().wait_until_ready(log_)) leave(EXIT_FAILURE);
    tell_manager(fmt::format("READY=1\nMAINPID={}", child.value().pid()));
    (void)manager_.barrier(ConnectionStore::kBarrierMax);
    ::_exit(EXIT_SUCCESS);
  }
  self_.emplace(std::move(child).value());
  NBDKIT_TRY(signals_->renew());
  log_.debug("", "forked into background (new pid = {})", ::getpid());
  background_ = true;
  if (::chdir("/") != 0) return os_error("chdir /");
  return {};
}

// With the last of root's rights, which -u gives up.
Result<void> Program::become() {
  if (options_.swap != SwapMode::off) {
    guards_.take_rights();
  } else if (options_.handoff.any()) {
    guards_.mind_the_kernel();
    if (!guards_.complete()) log_.debug("", "not permitted: {}", guards_.missing());
  }
  return identity_->assume(log_);
}

Result<void> Program::guard_stack(Service& service) {
  NBDKIT_TRY(service.make_all_threads());
  for (const LayerStack::Entry& entry : stack_.entries()) {
    if (!entry.layer->contract().swap_fit) guards_.add(unfit_layer(entry.name));
  }
  guards_.bound();
  if (guards_.complete()) return {};
  if (options_.swap == SwapMode::on) {
    return Error(std::errc::operation_not_permitted,
                 fmt::format("--swap: {}; --swap=force goes on without", guards_.missing()));
  }
  log_.warning("", "--swap=force: the machine may hang when it has no memory left: {}",
               guards_.missing());
  return {};
}

Result<void> Program::open_sockets_and_fork() {
  Result<Sockets> sockets = open_sockets(options_, *identity_, log_);
  if (!sockets.ok()) return std::move(sockets).error();
  sockets_.emplace(std::move(sockets).value());
  for (UniqueFd& fd : activation_.listening) sockets_->listening.push_back(std::move(fd));
  if (options_.run) return fork_captive();
  NBDKIT_TRY(become());
  if (options_.exit_with_parent) stop_with_parent(parent_);
  if (!options_.stays()) return go_to_background();
  // The keeper has detached from its caller, whose folder must not stay in use either.
  if (!controls_.empty() && ::chdir("/") != 0) return os_error("chdir /");
  return {};
}

Result<void> Program::open_doors(Service& service) {
  NBDKIT_TRY(service.accept_on(std::move(sockets_->listening)));
  NBDKIT_TRY(announce());
  if (options_.single) NBDKIT_TRY(service.serve_streams(std::move(*streams_)));
  for (UniqueFd& control : controls_) NBDKIT_TRY(service.take_handoffs(std::move(control)));
  if (sockets_->handoff) NBDKIT_TRY(service.take_handoffs(std::move(sockets_->handoff)));
  for (UniqueFd& control : activation_.control) {
    NBDKIT_TRY(service.take_handoffs(std::move(control)));
  }
  service.serve_given(options_.handoff.given, std::move(given_));
  const std::vector<GivenSocket> accepted(activation_.connected.size());
  service.serve_given(accepted, std::move(activation_.connected));
  service.serve_kept(std::move(activation_.kept));
  streams_.reset();
  if (!self_) tell_manager("READY=1");
  return {};
}

// Whoever waits for the program may connect from here on. Who waits for its pid file has the URI.
Result<void> Program::announce() {
  const Address& address = sockets_->address;
  const bool listens = address.port != 0 || !address.unix_path.empty();
  if (options_.print_uri && listens) NBDKIT_TRY(print_uri(address, *streams_));
  if (!options_.pid_file.empty()) {
    NBDKIT_TRY(write_pid_file(options_.pid_file));
    log_.debug("", "written pid file {}", options_.pid_file);
  }
  if (background_ && !options_.verbose) {
    if (::dup2(1, 2) < 0) return os_error("dup2");  // stdout is /dev/null already
  }
  if (background_) log_.leave_terminal();
  if (self_) self_->tell_ready();
  return {};
}

Result<Service::End> Program::serve() {
  if (options_.swap != SwapMode::off) {
    guards_.lock();
    NBDKIT_TRY(log_.write_elsewhere());
  }
  trace("after_fork");
  NBDKIT_TRY(stack_.after_fork());
  Service service(options_, stack_, host_, *signals_, manager_, ledger_.get());
  NBDKIT_TRY(service.prepare());
  if (options_.swap != SwapMode::off) {
    NBDKIT_TRY(guard_stack(service));
    service.tell_guards(to_json(guards_.all()));
  }
  NBDKIT_TRY(open_doors(service));
  if (stop_asked_) StopSignals::ask_to_stop();
  Service::End end = service.run();
  if (end == Service::End::forced) leave(EXIT_FAILURE);
  return end;
}

int Program::run() {
  int status = live();
  remove_folder();
  return status;
}

int Program::live() {
  Result<void> loaded = load();
  if (!loaded.ok()) return fail(loaded.error());
  if (options_.action == Action::help) return print(usage() + layers_help(stack_));
  if (options_.action == Action::version) {
    return print(version_line() + "\n" + layers_versions(stack_));
  }
  Result<void> configured = configure_stack(options_, stack_, log_);
  if (!configured.ok()) return fail(configured.error());
  if (options_.action == Action::dump_plugin) return print(plugin_dump(stack_));

  Result<void> ready = make_ready();
  if (!ready.ok()) return fail(ready.error());
  Result<void> open = open_sockets_and_fork();
  if (!open.ok()) return fail(open.error());
  Result<Service::End> end = serve();
  log_.end_elsewhere();
  trace("cleanup");
  stack_.cleanup();
  if (!end.ok()) return fail(end.error());
  return end.value() == Service::End::orderly ? EXIT_SUCCESS : EXIT_FAILURE;
}

Result<void> set_up_tls(Options& options, Log& log) {
  if (options.action != Action::serve) return {};
  Result<TlsCredentials::Shared> credentials = load_credentials(options.tls, log);
  if (!credentials.ok()) return std::move(credentials).error();
  options.handshake.tls = std::move(credentials).value();
  options.handshake.tls_required = options.tls.required();
  return {};
}

int main_with(int argc, char** argv) {
  std::string_view path = argc > 0 ? argv[0] : "nbdkit";
  const std::string name(path.substr(path.rfind('/') + 1));
  Log early(name, false);
  auto refuse = [&early](const Error& error) {
    early.error("", "{}", error.message());
    return EXIT_FAILURE;
  };

  Result<void> checked = check_standard_streams();
  if (!checked.ok()) return refuse(checked.error());
  Result<Options> options = parse_options(argc, argv);
  if (!options.ok()) return refuse(options.error());
  Result<Folders> folders = Folders::find();
  if (!folders.ok()) return refuse(folders.error());
  // It begins anew, with what the manager has said to this process.
  Result<void> executed = become_script(options.value(), folders.value(), argv);
  if (!executed.ok()) return refuse(executed.error());
  Result<Activation> activation = take_activation(early);
  if (!activation.ok()) return refuse(activation.error());
  const NotifySocket manager = NotifySocket::from_environment();
  options.value().activated = activation.value().has_sockets();
  Result<void> compatible = check_activation(activation.value(), options.value());
  if (!compatible.ok()) return refuse(compatible.error());

  switch (options.value().action) {
    case Action::bad_usage:
      print(usage());
      return EXIT_FAILURE;
    case Action::dump_config:
      return print(config_dump(folders.value()));
    case Action::long_options:
      return print(long_option_list());
    case Action::short_options:
      return print(short_option_list());
    case Action::help:
      if (options.value().plugin.empty()) return print(usage());
      break;
    case Action::version:
      if (options.value().plugin.empty()) return print(version_line() + "\n");
      break;
    case Action::serve:
    case Action::dump_plugin:
      break;
  }

  Result<std::vector<std::string>> parameters =
      expand_parameter_files(std::move(options.value().parameters));
  if (!parameters.ok()) return refuse(parameters.error());
  options.value().parameters = std::move(parameters).value();

  ::umask(0022);
  const bool named = options.value().name != Options().name;
  ServerLog log(named ? fmt::format("{}[{}]", name, options.value().name) : name,
                options.value().verbose);
  Result<void> directed = log.direct_to(options.value().log);
  if (!directed.ok()) return refuse(directed.error());
  if (options.value().single && is_one_socket(0, 2)) {
    Result<void> silent = silence_stderr();
    if (!silent.ok()) return refuse(silent.error());
    log.leave_terminal();
  }
  choose_debug_messages(options.value(), log);
  log.debug("", "{}", version_line());
  tell_environment(options.value(), log);
  Result<void> encrypted = set_up_tls(options.value(), log);
  if (!encrypted.ok()) return refuse(encrypted.error());
  return Program(options.value(), folders.value(), log, manager, std::move(activation).value())
      .run();
}

}  // namespace
}  // namespace nbdkit

int main(int argc, char** argv) { return nbdkit::main_with(argc, argv); }
