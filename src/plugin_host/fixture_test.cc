// SPDX-License-Identifier: BSD-3-Clause
#include "plugin_host/fixture_test.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace nbdkit {

void RecordingLog::write(LogLevel level, std::string_view who, std::string_view text) {
  std::lock_guard lock(mutex_);
  std::string line = fmt::format("{}: {}\n", who, text);
  all_ += line;
  if (level != LogLevel::debug) errors_ += line;
}

std::string RecordingLog::text() const {
  std::lock_guard lock(mutex_);
  return all_;
}

std::string RecordingLog::errors() const {
  std::lock_guard lock(mutex_);
  return errors_;
}

std::string message_of(const Result<void>& result) {
  return result.ok() ? "" : result.error().message();
}

Client::Client(TestLoop& loop, Log& log, std::uint64_t number)
    : loop_(loop), gate_(loop), context_(loop, gate_, log, number) {}

Client::~Client() {
  (void)loop_.run(gate_.drained());
  (void)close();
}

Result<void> Client::open(Layer& layer) {
  Result<DevicePtr> device = loop_.run(layer.open(context_));
  if (!device.ok()) return std::move(device).error();
  device_ = std::move(device).value();
  return {};
}

Result<void> Client::close() {
  if (!device_) return {};
  Result<void> closed = loop_.run(device_->close());
  device_.reset();
  return closed;
}

Result<std::string> Client::read(std::uint64_t offset, std::uint64_t length) {
  Reply reply(loop_.buffers(), context_.connection());
  Result<void> result = loop_.run(device_->pread(Request(Offset{offset}, length), reply));
  if (!result.ok()) return std::move(result).error();
  std::string text;
  for (const Reply::Piece& piece : reply.pieces()) {
    text.append(reinterpret_cast<const char*>(piece.data), piece.length);
  }
  return text;
}

Result<void> Client::write(std::uint64_t offset, std::string_view data, RequestFlags flags) {
  Payload payload(std::as_bytes(std::span(data)), loop_.buffers(), context_.connection());
  return loop_.run(device_->pwrite(Request(Offset{offset}, data.size(), flags), payload));
}

Result<void> Client::flush() { return loop_.run(device_->flush()); }

Result<void> Client::trim(std::uint64_t offset, std::uint64_t length, RequestFlags flags) {
  return loop_.run(device_->trim(Request(Offset{offset}, length, flags)));
}

Result<void> Client::zero(std::uint64_t offset, std::uint64_t length, RequestFlags flags) {
  return loop_.run(device_->zero(Request(Offset{offset}, length, flags)));
}

Result<void> Client::cache(std::uint64_t offset, std::uint64_t length) {
  return loop_.run(device_->cache(Request(Offset{offset}, length)));
}

Result<std::vector<Extent>> Client::extents(std::uint64_t offset, std::uint64_t length,
                                            RequestFlags flags) {
  Extents found(offset, properties().size);
  Result<void> result = loop_.run(device_->extents(Request(Offset{offset}, length, flags), found));
  if (!result.ok()) return std::move(result).error();
  return std::vector<Extent>(found.list().begin(), found.list().end());
}

HostFixture::HostFixture() {
  std::string pattern = std::filesystem::temp_directory_path() / "plugin_host_XXXXXX";
  folder = ::mkdtemp(pattern.data());
}

HostFixture::~HostFixture() {
  if (plugin) plugin->cleanup();
  plugin.reset();
  for (const char* variable : variables) ::unsetenv(variable);
  std::filesystem::remove_all(folder);
}

void HostFixture::set_environment(const char* name, const char* value) {
  ::setenv(name, value, 1);
  variables.push_back(name);
}

void* HostFixture::symbol(const char* name) const {
  void* library = ::dlopen(plugin->path().c_str(), RTLD_NOW | RTLD_NOLOAD);
  return ::dlsym(library, name);
}

std::string HostFixture::trace() const {
  return reinterpret_cast<const char* (*)()>(symbol("probe_trace"))();
}

void HostFixture::clear_trace() const { reinterpret_cast<void (*)()>(symbol("probe_clear"))(); }

Result<void> HostFixture::open_module(const std::string& path) {
  if (plugin) plugin->cleanup();
  plugin.reset();
  std::string copy = temporary(fmt::format("{}.so", ++copies));
  std::filesystem::copy_file(path, copy);
  if (!host) host = std::make_unique<PluginHost>(log, hooks);
  Result<std::unique_ptr<CPlugin>> loaded = load_c_plugin(*host, copy);
  if (!loaded.ok()) return std::move(loaded).error();
  plugin = std::move(loaded).value();
  return {};
}

Result<void> HostFixture::load(const std::string& path) {
  NBDKIT_TRY(open_module(path));
  plugin->attach(environment);
  return {};
}

Result<void> HostFixture::configure(Settings settings) {
  for (auto [key, value] : settings) {
    Result<bool> taken = plugin->configure(key, value);
    if (!taken.ok()) return std::move(taken).error();
  }
  return {};
}

Result<void> HostFixture::start(const std::string& path, Settings settings) {
  NBDKIT_TRY(load(path));
  NBDKIT_TRY(configure(settings));
  NBDKIT_TRY(plugin->configured());
  NBDKIT_TRY(plugin->get_ready());
  return plugin->after_fork();
}

std::unique_ptr<Client> HostFixture::new_client(std::string export_name, bool read_only) {
  auto client = std::make_unique<Client>(loop, log, ++clients);
  client->context().export_name = std::move(export_name);
  client->context().read_only = read_only;
  return client;
}

std::unique_ptr<Client> HostFixture::connect(std::string export_name, bool read_only) {
  auto client = new_client(std::move(export_name), read_only);
  Result<void> opened = client->open(*plugin);
  EXPECT_EQ(message_of(opened), "");
  return client;
}

std::string HostFixture::debian(std::string_view name) {
  std::FILE* pipe = ::popen("nbdkit --dump-config | sed -n 's/^plugindir=//p'", "r");
  char line[4096] = "";
  if (std::fgets(line, sizeof line, pipe) == nullptr) ADD_FAILURE() << "nbdkit is not installed";
  ::pclose(pipe);
  std::string directory(line);
  directory.erase(directory.find_last_not_of('\n') + 1);
  return fmt::format("{}/nbdkit-{}-plugin.so", directory, name);
}

std::string HostFixture::probe(std::string_view name) {
  return fmt::format("{}/nbdkit-{}-plugin.so", NBDKIT_TEST_PLUGINDIR, name);
}

}  // namespace nbdkit
