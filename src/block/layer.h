// SPDX-License-Identifier: BSD-3-Clause
// Layer: a plugin or a filter, once per process and place in the stack. It is configured once and
// opens a BlockDevice for every connection.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "async/task.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "block/context.h"
#include "block/device.h"
#include "block/params.h"
#include "block/thread_model.h"

namespace nbdkit {

// What the process gives its layers. Outlives them.
struct Environment {
  Log& log;
  // A memfd that outlives the server (nbdkit-attach's keeper holds it): for a plugin whose data
  // would be gone with the process. Its file size is 0 the first time. Invalid when there is none.
  UniqueFd kept_memory;
  // Asks the program to end in good order, as SIGTERM does. Any thread.
  std::function<void()> shut_down = [] {};
  // Stdin and stdout belong to a client (-s).
  bool stdio_is_client = false;
  // --swap: a request must not need memory, nor the page cache.
  bool swap = false;
};

// What open() fails with when this export is for connections with TLS only and this one is without.
// The client is told so (NBD protocol, SELECTIVETLS).
inline constexpr std::errc kNeedsTls = std::errc::no_protocol_option;

struct ExportEntry {
  std::string name;
  std::string description;
};

// Calls come in this order, on the main thread with no other thread about:
//   attach, (configure)*, configured, get_ready, | fork | after_fork,
// then, on any loop and at the same time:  preconnect, list_exports, default_export, open,
// and at the end, on the main thread:  cleanup.
// Errors up to after_fork end the start of the program: their detail is the one line that the user
// sees, without the layer's name in front.
class Layer {
 public:
  static constexpr std::size_t kNameMax =
      4096;  // bytes of an export name (NBD protocol, "Strings")
  static constexpr std::size_t kExportsMax = 10'000;

  Layer() = default;
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;
  virtual ~Layer() = default;

  // Must come first. Declares the parameters.
  void attach(Environment& environment);
  Environment& environment() const { return *environment_; }
  Log& log() const { return environment_->log; }

  // False when the key is not this layer's: it is then offered to the layer below.
  virtual Result<bool> configure(std::string_view key, std::string_view value);
  // All parameters have been given.
  virtual Result<void> configured() { return {}; }
  virtual Result<void> get_ready() { return {}; }
  virtual Result<void> after_fork() { return {}; }
  virtual void cleanup() {}

  // Valid after configured().
  virtual Contract contract() const = 0;
  // What its devices can bear, which they see to themselves: for --dump-plugin and the log.
  virtual ThreadModel thread_model() const { return ThreadModel::parallel; }
  // Of every device that this layer will open, in bytes; 1 when there is no such limit, or when
  // only open() can tell. Valid after configured(), before the fork.
  virtual Result<std::uint32_t> minimum_block() { return std::uint32_t{1}; }

  virtual Task<void> preconnect(Context& context);
  virtual Task<std::vector<ExportEntry>> list_exports(Context& context);
  // What a client gets that asks for the export "".
  virtual Task<std::string> default_export(Context& context);
  // The context outlives the device.
  virtual Task<DevicePtr> open(Context& context) = 0;

  // For --help, --version and --dump-plugin.
  virtual std::string_view long_name() const { return {}; }
  virtual std::string_view version() const { return {}; }
  virtual std::string_view description() const { return {}; }
  virtual std::string config_help() const { return params_.help(); }
  virtual std::string_view magic_key() const { return params_.magic_key(); }
  // Lines "key=value" that only this layer knows.
  virtual std::string dump() const { return {}; }

  const Params& params() const { return params_; }

 protected:
  virtual void declare(Params&) {}

 private:
  Environment* environment_ = nullptr;
  Params params_;
};

// A layer above another one. What it does not override goes to the layer below unchanged.
class FilterLayer : public Layer {
 public:
  void set_below(Layer& below) { below_ = &below; }
  Layer& below() const { return *below_; }

  Result<std::uint32_t> minimum_block() override { return below().minimum_block(); }
  Task<void> preconnect(Context& context) override { return below().preconnect(context); }
  Task<std::vector<ExportEntry>> list_exports(Context& context) override {
    return below().list_exports(context);
  }
  Task<std::string> default_export(Context& context) override {
    return below().default_export(context);
  }

  // Opens what is below and puts wrap() around it; can_multi_conn is lost when contract() says so.
  // A filter that decides itself what to open, and when, overrides this.
  Task<DevicePtr> open(Context& context) override;

 protected:
  // Most filters override only this: it moves `next`, which is open already, into the filter's
  // device, or fails and leaves it alone, and then it is closed again.
  virtual Task<DevicePtr> wrap(Context& context, DevicePtr& next);

 private:
  Layer* below_ = nullptr;
};

}  // namespace nbdkit
