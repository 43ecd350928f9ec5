// SPDX-License-Identifier: BSD-3-Clause
#include "support/stack.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include "base/check.h"
#include "block/native_module.h"

namespace nbdkit {
namespace {

std::string to_string(const Reply& reply) {
  std::string text;
  for (const Reply::Piece& piece : reply.pieces()) {
    if (piece.data == nullptr) {
      text.append(piece.length, '\0');
    } else {
      text.append(reinterpret_cast<const char*>(piece.data), piece.length);
    }
  }
  return text;
}

}  // namespace

class ScriptedDevice final : public BlockDevice {
 public:
  ScriptedDevice(Context& context, ScriptedLayer& layer)
      : BlockDevice(layer.properties), context_(context), layer_(layer) {}

  Task<void> pread(Request request, Reply& reply) override {
    co_await arrive(Operation::read, request);
    auto buffer = reply.buffer(request.length);
    std::memcpy(buffer.value().data(), layer_.bytes.data() + request.offset, request.length);
  }
  Task<void> pwrite(Request request, Payload& payload) override {
    co_await arrive(Operation::write, request);
    std::memcpy(layer_.bytes.data() + request.offset, payload.bytes().data(), request.length);
  }
  Task<void> flush() override { return arrive(Operation::flush, Request(Offset{0}, 0)); }
  Task<void> trim(Request request) override { return arrive(Operation::trim, request); }
  Task<void> zero(Request request) override {
    co_await arrive(Operation::zero, request);
    std::memset(layer_.bytes.data() + request.offset, 0, request.length);
  }
  Task<void> cache(Request request) override { return arrive(Operation::cache, request); }
  Task<void> extents(Request request, Extents& extents) override {
    co_await arrive(Operation::extents, request);
    Result<void> added = add_extents(request, extents);
    if (!added.ok()) co_await nbdkit::fail(std::move(added).error());
  }

 private:
  Result<void> add_extents(Request request, Extents& extents) {
    if (layer_.extents.empty()) {
      return extents.add(request.offset, request.length, ExtentType::data);
    }
    for (const Extent& extent : layer_.extents) {
      if (extent.offset + extent.length <= request.offset) continue;
      NBDKIT_TRY(extents.add(extent.offset, extent.length, extent.type));
      if (request.has(RequestFlags::one)) break;
    }
    return {};
  }
  Task<void> arrive(Operation operation, Request request) {
    const Nanoseconds delay = layer_.note(operation, request);
    if (delay != Nanoseconds(0)) co_await context_.sleep(delay);
    std::errc code = layer_.next_error(operation);
    if (code != std::errc{}) co_await nbdkit::fail(code);
  }

  Context& context_;
  ScriptedLayer& layer_;
};

Nanoseconds ScriptedLayer::note(Operation operation, Request request) {
  std::lock_guard lock(mutex_);
  calls.push_back({operation, request});
  ++arrived;
  return delay_;
}

std::errc ScriptedLayer::next_error(Operation operation) {
  std::lock_guard lock(mutex_);
  auto error = std::find_if(errors_.begin(), errors_.end(),
                            [&](const auto& one) { return one.first == operation; });
  if (error == errors_.end()) return {};
  std::errc code = error->second;
  errors_.erase(error);
  return code;
}

ScriptedLayer::ScriptedLayer(std::uint64_t size) : bytes(size) {
  properties.size = size;
  properties.can_write = properties.can_flush = properties.can_fua = properties.can_trim = true;
  properties.can_cache = properties.can_extents = properties.can_multi_conn = true;
}

Contract ScriptedLayer::contract() const { return {.survives = survives}; }

Task<DevicePtr> ScriptedLayer::open(Context& context) {
  if (open_error != std::errc{}) return Result<DevicePtr>(open_error);
  return Result<DevicePtr>(std::make_unique<ScriptedDevice>(context, *this));
}

void ScriptedLayer::fail(Operation operation, std::vector<std::errc> errors) {
  std::lock_guard lock(mutex_);
  for (std::errc error : errors) errors_.emplace_back(operation, error);
}

class Stack::Recorder final : public Log {
 public:
  Recorder() : Log("test", true) {}
  void write(LogLevel, std::string_view who, std::string_view text) override {
    std::lock_guard lock(mutex);
    lines += fmt::format("{}: {}\n", who, text);
  }
  std::mutex mutex;
  std::string lines;
};

Stack::Stack()
    : gate_(loop_),
      log_(std::make_unique<Recorder>()),
      environment_(new Environment{*log_, UniqueFd(), [this] { ++shut_downs_; }}) {}

Stack::~Stack() {
  (void)loop_.run(gate_.drained());
  for (auto& device : devices_) (void)loop_.run(device->close());
  devices_.clear();
  if (layer_) layer_->cleanup();
}

const std::string& Stack::log() const { return log_->lines; }

Result<std::unique_ptr<Stack>> Stack::make(std::string_view kind, std::string_view name,
                                           Parameters parameters, Layer* below,
                                           UniqueFd kept_memory) {
  std::unique_ptr<Stack> stack(new Stack);
  stack->environment_->kept_memory = std::move(kept_memory);
  std::string path(name);
  if (name.find('/') == std::string_view::npos) {
    path = fmt::format("{}/{}s/nbdkit-{}-{}.so", NBDKIT_TEST_LIBDIR, kind, name, kind);
  }
  Result<LoadedModule> loaded = load_native_module(path);
  if (!loaded.ok()) return std::move(loaded).error();
  stack->layer_ = std::move(loaded.value().layer);
  Layer& layer = *stack->layer_;
  layer.attach(*stack->environment_);
  if (below != nullptr) {
    below->attach(*stack->environment_);
    static_cast<FilterLayer&>(layer).set_below(*below);
  }
  for (auto [key, value] : parameters) {
    Result<bool> taken = layer.configure(key, value);
    if (!taken.ok()) return std::move(taken).error();
    if (!taken.value()) {
      return Error(std::errc::invalid_argument, fmt::format("unknown parameter {}", key));
    }
  }
  NBDKIT_TRY(layer.configured());
  NBDKIT_TRY(layer.get_ready());
  NBDKIT_TRY(layer.after_fork());
  return stack;
}

Result<std::unique_ptr<Stack>> Stack::plugin(std::string_view name, Parameters parameters,
                                             UniqueFd kept_memory) {
  return make("plugin", name, parameters, nullptr, std::move(kept_memory));
}

Result<std::unique_ptr<Stack>> Stack::filter(std::string_view name, Parameters parameters,
                                             Layer& below) {
  return make("filter", name, parameters, &below, UniqueFd());
}

Result<Chain*> Stack::open(std::string export_name, bool read_only) {
  contexts_.push_back(std::make_unique<Context>(loop_, gate_, *log_, contexts_.size() + 1));
  contexts_.back()->export_name = std::move(export_name);
  contexts_.back()->read_only = read_only;
  Result<DevicePtr> device = loop_.run(layer_->open(*contexts_.back()));
  if (!device.ok()) return std::move(device).error();
  devices_.push_back(std::make_unique<Chain>(std::move(device).value()));
  return devices_.back().get();
}

Result<std::string> Stack::read(std::uint64_t offset, std::uint64_t length, RequestFlags flags) {
  Reply reply(loop_.buffers(), contexts_.size());
  Result<void> result = loop_.run(device().pread(Request(Offset{offset}, length, flags), reply));
  if (!result.ok()) return std::move(result).error();
  return to_string(reply);
}

Result<void> Stack::write(std::uint64_t offset, std::string_view data, RequestFlags flags) {
  Payload payload(std::as_bytes(std::span(data)), loop_.buffers(), contexts_.size());
  return loop_.run(device().pwrite(Request(Offset{offset}, data.size(), flags), payload));
}

Result<void> Stack::flush() { return loop_.run(device().flush()); }

Result<void> Stack::trim(std::uint64_t offset, std::uint64_t length, RequestFlags flags) {
  return loop_.run(device().trim(Request(Offset{offset}, length, flags)));
}

Result<void> Stack::zero(std::uint64_t offset, std::uint64_t length, RequestFlags flags) {
  return loop_.run(device().zero(Request(Offset{offset}, length, flags)));
}

Result<std::vector<Extent>> Stack::extents(std::uint64_t offset, std::uint64_t length,
                                           RequestFlags flags) {
  Extents extents(offset, device().properties().size);
  Result<void> result =
      loop_.run(device().extents(Request(Offset{offset}, length, flags), extents));
  if (!result.ok()) return std::move(result).error();
  return std::vector<Extent>(extents.list().begin(), extents.list().end());
}

OtherConnection::OtherConnection(Stack& stack, std::string export_name, bool read_only)
    : gate_(loop_), context_(loop_, gate_, stack.layer().log(), 1000) {
  context_.export_name = std::move(export_name);
  context_.read_only = read_only;
  Result<DevicePtr> device = loop_.run(stack.layer().open(context_));
  NBDKIT_CHECK(device.ok());
  device_ = std::make_unique<Chain>(std::move(device).value());
}

OtherConnection::~OtherConnection() {
  (void)loop_.run(gate_.drained());
  (void)loop_.run(device_->close());
}

Result<std::string> OtherConnection::read(std::uint64_t offset, std::uint64_t length) {
  Reply reply(loop_.buffers(), context_.connection());
  Result<void> result = loop_.run(device_->pread(Request(Offset{offset}, length), reply));
  if (!result.ok()) return std::move(result).error();
  return to_string(reply);
}

Result<void> OtherConnection::write(std::uint64_t offset, std::string_view data,
                                    RequestFlags flags) {
  Payload payload(std::as_bytes(std::span(data)), loop_.buffers(), context_.connection());
  return loop_.run(device_->pwrite(Request(Offset{offset}, data.size(), flags), payload));
}

Result<void> OtherConnection::zero(std::uint64_t offset, std::uint64_t length, RequestFlags flags) {
  return loop_.run(device_->zero(Request(Offset{offset}, length, flags)));
}

Result<void> OtherConnection::flush() { return loop_.run(device_->flush()); }

}  // namespace nbdkit
