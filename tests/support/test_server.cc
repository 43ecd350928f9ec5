// SPDX-License-Identifier: BSD-3-Clause
#include "support/test_server.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <array>
#include <utility>

#include "base/check.h"

namespace nbdkit {

class TestServer::Recorder final : public Log {
 public:
  Recorder() : Log("test", false) {}
  void write(LogLevel, std::string_view who, std::string_view text) override {
    std::lock_guard lock(mutex_);
    lines_ += fmt::format("{}: {}\n", who, text);
  }
  std::string lines() const {
    std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  mutable std::mutex mutex_;
  std::string lines_;
};

TestServer::TestServer(std::unique_ptr<Layer> plugin, ServerOptions options)
    : log_(std::make_unique<Recorder>()),
      environment_(new Environment{*log_, UniqueFd()}),
      stack_(std::make_unique<LayerStack>(*environment_)) {
  stack_->add("test", "test", std::move(plugin));
  server_ = std::make_unique<Server>(runtime_, *stack_, *log_, options);
  thread_ = std::thread([this] { runtime_.main_loop().run(); });
}

TestServer::~TestServer() {
  stop();
  runtime_.main_loop().stop();
  thread_.join();
}

WireClient TestServer::connect(StartOptions options) {
  std::array<int, 2> ends;
  NBDKIT_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
  WireClient client{UniqueFd(ends[0])};
  Result<Started> started = start(UniqueFd(ends[1]), std::move(options));
  NBDKIT_CHECK(started.ok());
  return client;
}

Result<Started> TestServer::start(UniqueFd socket, StartOptions options) {
  return on_main_loop([&] { return server_->start(std::move(socket), std::move(options)); });
}

Result<ExportInfo> TestServer::query(std::string export_name) {
  return on_main_loop([&] { return server_->query(std::move(export_name), false); });
}

void TestServer::stop() {
  if (std::exchange(stopped_, true)) return;
  (void)on_main_loop([&] { return server_->stop(); });
}

Log& TestServer::log_sink() { return *log_; }

std::string TestServer::log() const { return log_->lines(); }

}  // namespace nbdkit
