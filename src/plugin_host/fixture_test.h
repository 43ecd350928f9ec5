// SPDX-License-Identifier: BSD-3-Clause
// HostFixture: a plugin in C under test, loaded as the server does it.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plugin_host/c_plugin.h"
#include "support/test_loop.h"

namespace nbdkit {

class RecordingLog final : public Log {
 public:
  RecordingLog() : Log("test", true) {}
  void write(LogLevel level, std::string_view who, std::string_view text) override;
  std::string text() const;
  // What was said that is not for debugging.
  std::string errors() const;

 private:
  mutable std::mutex mutex_;
  std::string all_;
  std::string errors_;
};

// A connection with its device, on the fixture's loop.
class Client {
 public:
  Client(TestLoop& loop, Log& log, std::uint64_t number);
  ~Client();

  Context& context() { return context_; }
  Result<void> open(Layer& layer);
  Result<void> close();
  // The connection ends: sleeps are interrupted.
  void end() { gate_.close(); }

  Result<std::string> read(std::uint64_t offset, std::uint64_t length);
  Result<void> write(std::uint64_t offset, std::string_view data,
                     RequestFlags flags = RequestFlags::none);
  Result<void> flush();
  Result<void> trim(std::uint64_t offset, std::uint64_t length,
                    RequestFlags flags = RequestFlags::none);
  Result<void> zero(std::uint64_t offset, std::uint64_t length,
                    RequestFlags flags = RequestFlags::none);
  Result<void> cache(std::uint64_t offset, std::uint64_t length);
  Result<std::vector<Extent>> extents(std::uint64_t offset, std::uint64_t length,
                                      RequestFlags flags = RequestFlags::none);

  const Properties& properties() const { return device_->properties(); }
  BlockDevice& device() { return *device_; }

 private:
  TestLoop& loop_;
  Gate gate_;
  Context context_;
  DevicePtr device_;
};

using Settings = std::initializer_list<std::pair<std::string_view, std::string_view>>;

struct HostFixture : testing::Test {
  HostFixture();
  ~HostFixture() override;

  // The plugin's state must be new in each test, so a copy of the file is loaded.
  Result<void> open_module(const std::string& path);
  // And attached, so that its load() has run.
  Result<void> load(const std::string& path);
  // load(), the parameters, and everything up to after_fork.
  Result<void> start(const std::string& path, Settings settings);
  Result<void> configure(Settings settings);

  std::unique_ptr<Client> new_client(std::string export_name = "", bool read_only = false);
  // With its device open.
  std::unique_ptr<Client> connect(std::string export_name = "", bool read_only = false);

  // Of the probe (tests/plugins/probe.c): what it was asked since the trace was cleared.
  void* symbol(const char* name) const;
  std::string trace() const;
  void clear_trace() const;
  // Until the end of the test.
  void set_environment(const char* name, const char* value);

  std::string temporary(std::string_view name) const { return (folder / name).string(); }
  static std::string debian(std::string_view name);
  static std::string probe(std::string_view name);

  RecordingLog log;
  Environment environment{log, UniqueFd()};
  PluginHost::Hooks hooks;
  std::unique_ptr<PluginHost> host;
  TestLoop loop;
  std::unique_ptr<CPlugin> plugin;
  std::filesystem::path folder;
  std::vector<const char*> variables;
  int copies = 0;
  std::uint64_t clients = 0;
};

std::string message_of(const Result<void>& result);

}  // namespace nbdkit
