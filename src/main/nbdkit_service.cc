// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_service.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <csignal>
#include <utility>

namespace nbdkit {
namespace {

// Connections beyond these share them.
constexpr std::size_t kFixedLoops = 4;

}  // namespace

Service::Service(const Options& options, LayerStack& stack, PluginHost& host,
                 const StopSignals& signals, const NotifySocket& manager, RequestLedger* ledger)
    : stack_(stack),
      host_(host),
      signals_(signals),
      log_(host.log()),
      handoff_options_(options.handoff),
      keepalive_(options.keepalive),
      tls_required_(options.tls.required()),
      threads_(options.threads),
      keeps_connections_(!options.single && manager.may_store() &&
                         (options.read_only || stack.contract().survives == Survives::durable)),
      loop_(runtime_.main_loop()),
      server_(runtime_, stack, log_,
              {options.read_only, options.threads, options.handshake, ledger,
               options.swap != SwapMode::off}),
      status_(loop_, server_, manager, stack.entries().front().name),
      store_(loop_, server_, log_, manager) {
  server_.observe(*this);
}

Service::~Service() = default;

Result<void> Service::prepare() {
  NBDKIT_TRY(loop_.usable());
  return runtime_.loops().prepare();
}

Result<void> Service::make_all_threads() {
  NBDKIT_TRY(runtime_.loops().fix(kFixedLoops));
  return runtime_.workers().fix(threads_);
}

Result<void> Service::accept_on(std::vector<UniqueFd> listening) {
  for (UniqueFd& socket : listening) {
    listeners_.push_back(std::make_unique<Listener>(
        loop_, log_, std::move(socket),
        [this](UniqueFd connection) { start(std::move(connection), {}, false); }, keepalive_));
    NBDKIT_TRY(listeners_.back()->start());
  }
  return {};
}

Result<void> Service::serve_streams(StandardStreams streams) {
  if (is_one_socket(streams.in.get(), streams.out.get())) {
    StartOptions options;
    options.foreign = true;
    start(std::move(streams.in), std::move(options), true);
    return {};
  }
  relay_.emplace(std::move(streams.in), std::move(streams.out));
  Result<UniqueFd> socket = relay_->start(loop_, relay_job_);
  if (!socket.ok()) return std::move(socket).error();
  start(std::move(socket).value(), {}, true);
  return {};
}

Result<void> Service::take_handoffs(UniqueFd control) {
  if (!handoff_) {
    auto emptied = [this] {
      log_.debug("", "the last handoff socket has gone");
      stop_if_over();
    };
    handoff_.emplace(loop_, server_, log_,
                     HandoffTerms{stack_.contract(), stack_.mapping(), tls_required_, guards_},
                     handoff_options_.users, emptied);
  }
  return handoff_->open(std::move(control));
}

void Service::serve_given(const std::vector<GivenSocket>& given, std::vector<UniqueFd> sockets) {
  for (std::size_t i = 0; i < given.size(); ++i) {
    using Mode = StartOptions::Mode;
    StartOptions options;
    options.mode = given[i].transmission ? Mode::transmission : Mode::handshake;
    options.export_name = given[i].export_name;
    options.foreign = true;
    start(std::move(sockets[i]), std::move(options), true);
  }
}

void Service::start(UniqueFd socket, StartOptions options, bool needed) {
  auto report = [this, needed](Result<Started> started) {
    if (started.ok()) return;
    log_.error("", "cannot serve a connection: {}", started.error().message());
    if (needed) end_ = End::failed;
    stop_if_over();
  };
  finish(server_.start(std::move(socket), std::move(options)), report);
}

// Without connections and without ways in for new ones. With a relay its end counts: what the
// connection said last has been passed on then.
bool Service::is_over() const {
  bool may_get_more = !listeners_.empty() || (handoff_ && handoff_->is_open());
  return !may_get_more && (!relay_ || relay_ended_) && server_.connections() == 0;
}

void Service::stop_if_over() {
  if (is_over() && !std::exchange(check_deferred_, true)) loop_.defer(check_job_);
}

void Service::stop_if_still_over() {
  check_deferred_ = false;
  if (is_over()) stop();
}

void Service::relay_ended() {
  relay_ended_ = true;
  stop_if_over();
}

void Service::ready(std::uint32_t) noexcept {
  while (int number = signals_.take()) {
    if (number != StopSignals::kAsked) log_.debug("", "received signal {}", number);
    bool again = stopping_ && loop_.now() - stopping_since_ >= kSameWish;
    if (again && number != SIGHUP && number != StopSignals::kAsked) {
      // Whoever sends another one does not want to wait for a plugin that does not come back.
      end_ = End::forced;
      return loop_.stop();
    }
    stop();
  }
}

void Service::stop() {
  if (std::exchange(stopping_, true)) return;
  stopping_since_ = loop_.now();
  finish(shut_down(), [this](Result<void>) { loop_.stop(); });
}

Task<void> Service::shut_down() {
  log_.debug("", "shutting down");
  status_.begin_stop();
  for (auto& listener : listeners_) listener->stop();
  // While it still listens: afterwards a successor may take the place.
  if (!handoff_options_.path.empty()) ::unlink(handoff_options_.path.c_str());
  if (handoff_) handoff_->stop_listening();
  co_await store_.settled();
  // Before anybody in a plugin is disturbed: to these clients nothing is to happen.
  if (keeps_connections_) co_await store_.store_all();
  host_.stop();
  // Whoever has subscribed is told of the end of every connection.
  stopping_since_ = loop_.now();  // Storing has had a time of its own.
  co_await server_.stop();
  if (handoff_) co_await handoff_->stop();
}

Service::End Service::run() {
  Result<void> watched = loop_.watch(signals_.fd(), EPOLLIN, *this);
  if (!watched.ok()) {
    log_.error("", "cannot wait for signals: {}", watched.error().message());
    return End::forced;
  }
  status_.start();
  loop_.run();
  loop_.unwatch(signals_.fd(), *this);
  return end_;
}

}  // namespace nbdkit
