// SPDX-License-Identifier: BSD-3-Clause
#include "plugin_host/plugin_host.h"

#include <fmt/format.h>

#include <chrono>
#include <cstring>

#include "base/check.h"
#include "plugin_host/session.h"

namespace nbdkit {
namespace {

// Plugins call functions of C without any argument that could lead here.
constinit std::atomic<PluginHost*> process_host{nullptr};

}  // namespace

const char* Interns::keep(std::string_view text) {
  auto copy = std::make_unique<char[]>(text.size() + 1);
  std::memcpy(copy.get(), text.data(), text.size());
  std::lock_guard lock(mutex_);
  strings_.push_back(std::move(copy));
  return strings_.back().get();
}

PluginHost::PluginHost(Log& log, Hooks hooks) : log_(log), hooks_(std::move(hooks)) {
  PluginHost* none = nullptr;
  NBDKIT_CHECK(process_host.compare_exchange_strong(none, this));
}

PluginHost::~PluginHost() { process_host.store(nullptr); }

PluginHost* PluginHost::current() { return process_host.load(); }

void PluginHost::stop() {
  std::lock_guard lock(mutex_);
  stopping_ = true;
  wake_.notify_all();
}

bool PluginHost::stopping() const {
  std::lock_guard lock(mutex_);
  return stopping_;
}

bool PluginHost::sleep(Nanoseconds delay, const Session* session) {
  auto until = std::chrono::steady_clock::now() + delay;
  std::unique_lock lock(mutex_);
  auto ended = [&] { return stopping_ || (session != nullptr && session->ended_); };
  return !wake_.wait_until(lock, until, ended);
}

Session::Session(PluginHost& host, Context& context, std::string_view plugin)
    : Interruptible(context.gate()),
      host_(host),
      context_(context),
      who_(fmt::format("{}.{}", plugin, context.connection())),
      ended_(context.gate().closed()) {}

void Session::interrupt() noexcept {
  std::lock_guard lock(host_.mutex_);
  ended_ = true;
  host_.wake_.notify_all();
}

}  // namespace nbdkit
