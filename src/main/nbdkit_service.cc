// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_service.h"

#include <sys/epoll.h>

#include <csignal>
#include <utility>

namespace nbdkit {

Service::Service(const Options& options, LayerStack& stack, PluginHost& host,
                 const StopSignals& signals)
    : stack_(stack),
      host_(host),
      signals_(signals),
      log_(host.log()),
      single_(options.single),
      stop_job_(*this),
      relay_ended_job_(*this),
      loop_(runtime_.main_loop()),
      server_(runtime_, stack, log_, {options.read_only, options.threads}) {
  server_.on_connection_end([this](ConnectionId) { stop_if_over(); });
}

Service::~Service() = default;

Result<void> Service::accept_on(std::vector<UniqueFd> listening) {
  for (UniqueFd& socket : listening) {
    listeners_.push_back(std::make_unique<Listener>(
        loop_, log_, std::move(socket),
        [this](UniqueFd connection) { start(std::move(connection), false); }));
    NBDKIT_TRY(listeners_.back()->start());
  }
  return {};
}

Result<void> Service::serve_streams(StandardStreams streams) {
  if (is_one_socket(streams.in.get(), streams.out.get())) {
    start(std::move(streams.in), true);
    return {};
  }
  relay_.emplace(std::move(streams.in), std::move(streams.out));
  Result<UniqueFd> socket = relay_->start(loop_, relay_ended_job_);
  if (!socket.ok()) return std::move(socket).error();
  start(std::move(socket).value(), false);
  return {};
}

Result<void> Service::take_handoffs(UniqueFd control) {
  handoff_.emplace(loop_, server_, log_, stack_.contract(), std::move(control));
  return handoff_->start([this] {
    handoff_lost_ = true;
    log_.debug("", "the handoff socket's other end has gone");
    stop_if_over();
  });
}

void Service::start(UniqueFd socket, bool foreign) {
  StartOptions options;
  options.foreign = foreign;
  finish(server_.start(std::move(socket), std::move(options)), [this](Result<Started> started) {
    if (started.ok()) return;
    log_.error("", "cannot serve a connection: {}", started.error().message());
    if (single_) {
      end_ = End::failed;
      stop_soon();
    }
  });
}

void Service::stop_if_over() {
  // With a relay its end counts: what the connection said last has been passed on then.
  bool single_over = single_ && !relay_ && server_.connections() == 0;
  bool nobody_left = handoff_lost_ && listeners_.empty() && server_.connections() == 0;
  if (single_over || nobody_left) stop_soon();
}

void Service::stop_soon() {
  if (!std::exchange(stop_deferred_, true)) loop_.defer(stop_job_);
}

void Service::ready(std::uint32_t) noexcept {
  while (int number = signals_.take()) {
    if (number != StopSignals::kAsked) log_.debug("", "received signal {}", number);
    if (stopping_ && number != SIGHUP && number != StopSignals::kAsked) {
      // The second one: whoever sent it does not want to wait for clients that do not leave.
      end_ = End::forced;
      return loop_.stop();
    }
    stop();
  }
}

void Service::stop() {
  if (std::exchange(stopping_, true)) return;
  finish(shut_down(), [this](Result<void>) { loop_.stop(); });
}

Task<void> Service::shut_down() {
  log_.debug("", "shutting down");
  for (auto& listener : listeners_) listener->stop();
  host_.stop();
  if (handoff_) co_await handoff_->stop();
  co_await server_.stop();
}

Service::End Service::run() {
  Result<void> watched = loop_.watch(signals_.fd(), EPOLLIN, *this);
  if (!watched.ok()) {
    log_.error("", "cannot wait for signals: {}", watched.error().message());
    return End::forced;
  }
  loop_.run();
  loop_.unwatch(signals_.fd(), *this);
  return end_;
}

}  // namespace nbdkit
