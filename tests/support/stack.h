// SPDX-License-Identifier: BSD-3-Clause
// Stack: a plugin or filter under test, loaded through the same door as the server does.
#pragma once

#include <atomic>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "block/context.h"
#include "block/layer.h"
#include "support/test_loop.h"

namespace nbdkit {

// What a scripted device was asked to do.
struct Call {
  Operation operation;
  Request request;
};

// A device at the bottom of a stack that remembers what it is asked, holds real bytes, and fails as
// told. Its size and everything else it announces can be changed before it is opened.
class ScriptedLayer final : public Layer {
 public:
  explicit ScriptedLayer(std::uint64_t size);

  Contract contract() const override;
  Task<DevicePtr> open(Context& context) override;

  // The next calls of `operation` end with these, in order; afterwards it works again.
  void fail(Operation operation, std::vector<std::errc> errors);
  // Every call waits as long before it is done.
  void set_delay(Nanoseconds delay) {
    std::lock_guard lock(mutex_);
    delay_ = delay;
  }

  Survives survives = Survives::durable;
  Properties properties;
  std::errc open_error{};               // what open() fails with
  std::vector<std::byte> bytes;         // the disk
  std::vector<Call> calls;              // in order of arrival, all connections
  std::atomic<std::size_t> arrived{0};  // how many; may be asked from another thread
  std::vector<Extent> extents;          // of the whole disk; none: what is asked for is data

 private:
  friend class ScriptedDevice;

  Nanoseconds note(Operation operation, Request request);
  std::errc next_error(Operation operation);

  std::mutex mutex_;  // many connections, many loops
  std::vector<std::pair<Operation, std::errc>> errors_;
  Nanoseconds delay_{0};
};

using Parameters = std::initializer_list<std::pair<std::string_view, std::string_view>>;

// One connection to a plugin, or to a filter above a ScriptedLayer.
class Stack {
 public:
  // All calls that come before the first connection. The Error is what the user would see. A name
  // with a slash is the path of the module.
  // `kept_memory` is what Environment says of it.
  static Result<std::unique_ptr<Stack>> plugin(std::string_view name, Parameters parameters,
                                               UniqueFd kept_memory = UniqueFd());
  static Result<std::unique_ptr<Stack>> filter(std::string_view name, Parameters parameters,
                                               Layer& below);
  ~Stack();

  // Opens one more connection's device; closed with the Stack.
  Result<Chain*> open(std::string export_name = "", bool read_only = false);

  // Do one request to its end on the newest device.
  Result<std::string> read(std::uint64_t offset, std::uint64_t length,
                           RequestFlags flags = RequestFlags::none);
  Result<void> write(std::uint64_t offset, std::string_view data,
                     RequestFlags flags = RequestFlags::none);
  Result<void> flush();
  Result<void> trim(std::uint64_t offset, std::uint64_t length,
                    RequestFlags flags = RequestFlags::none);
  Result<void> zero(std::uint64_t offset, std::uint64_t length,
                    RequestFlags flags = RequestFlags::none);
  Result<std::vector<Extent>> extents(std::uint64_t offset, std::uint64_t length,
                                      RequestFlags flags = RequestFlags::none);

  Chain& device() { return *devices_.back(); }
  Layer& layer() { return *layer_; }
  Context& context() { return *contexts_.back(); }  // of the newest device
  TestLoop& loop() { return loop_; }
  Gate& gate() { return gate_; }  // Of all connections.
  // What the layers said to the operator.
  const std::string& log() const;
  // How often a layer has asked for the end of the program.
  int times_shut_down() const { return shut_downs_; }

 private:
  class Recorder;

  Stack();
  static Result<std::unique_ptr<Stack>> make(std::string_view kind, std::string_view name,
                                             Parameters parameters, Layer* below,
                                             UniqueFd kept_memory);

  TestLoop loop_;
  Gate gate_;
  std::unique_ptr<Recorder> log_;
  std::unique_ptr<Environment> environment_;
  int shut_downs_ = 0;
  std::unique_ptr<Layer> layer_;
  std::vector<std::unique_ptr<Context>> contexts_;
  std::vector<std::unique_ptr<Chain>> devices_;
};

// One more connection, on a loop of its own: for tests with several threads. Used by one thread.
class OtherConnection {
 public:
  explicit OtherConnection(Stack& stack, std::string export_name = "", bool read_only = false);
  ~OtherConnection();

  Chain& device() { return *device_; }
  TestLoop& loop() { return loop_; }

  Result<std::string> read(std::uint64_t offset, std::uint64_t length);
  Result<void> write(std::uint64_t offset, std::string_view data,
                     RequestFlags flags = RequestFlags::none);
  Result<void> zero(std::uint64_t offset, std::uint64_t length,
                    RequestFlags flags = RequestFlags::none);
  Result<void> flush();

 private:
  TestLoop loop_;
  Gate gate_;
  Context context_;
  std::unique_ptr<Chain> device_;
};

}  // namespace nbdkit
