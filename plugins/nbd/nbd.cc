// SPDX-License-Identifier: BSD-3-Clause
// nbd: the export of another NBD server.

#include <fmt/format.h>

#include <utility>

#include "block/layer.h"
#include "block/native_module.h"
#include "client/client_session.h"
#include "client/remote_export.h"
#include "device.h"
#include "home.h"
#include "server_program.h"
#include "settings.h"

namespace nbdkit {
namespace {

class NbdLayer final : public Layer {
 public:
  Result<void> configured() override;
  Result<void> get_ready() override { return settings_.load(); }
  Result<void> after_fork() override;
  void cleanup() override;

  Contract contract() const override;
  std::string_view long_name() const override { return "nbdkit nbd plugin"; }
  std::string dump() const override {
    return "libnbd_tls=1\nlibnbd_uri=1\nlibnbd_vsock=1\nlibnbd_dynamic_list=1\n";
  }

  Task<std::vector<ExportEntry>> list_exports(Context& context) override;
  Task<std::string> default_export(Context& context) override;
  Task<DevicePtr> open(Context& context) override;

 protected:
  void declare(Params& params) override { settings_.declare(params); }

 private:
  Settings settings_;
  LostWrites lost_;
  std::unique_ptr<ServerProgram> program_;
  std::unique_ptr<Home> home_;  // of the one connection that all share
};

Result<void> NbdLayer::configured() {
  NBDKIT_TRY(settings_.check());
  if (!settings_.ignored_export().empty()) {
    log().warning("nbd", "export={} is ignored: the URI has the name of an export already",
                  settings_.ignored_export());
  }
  return {};
}

Contract NbdLayer::contract() const {
  // What the other server has answered does not depend on this process, unless that server ends
  // with it.
  const bool alone = !settings_.is_command();
  return {.survives = alone ? Survives::durable : Survives::flushed,
          .shared_open = alone && can_connect_again(settings_.options().address)};
}

Result<void> NbdLayer::after_fork() {
  if (!settings_.is_shared()) return {};
  RemoteOptions options = settings_.options();
  if (settings_.is_command()) {
    Result<std::unique_ptr<ServerProgram>> program = ServerProgram::start(settings_.command());
    if (!program.ok()) return std::move(program).error();
    program_ = std::move(program).value();
    options.address = RemoteUnix{program_->socket_path()};
    options.reconnect_max = Nanoseconds(0);
  }
  Result<std::unique_ptr<Home>> home = Home::start(log(), std::move(options), lost_);
  if (program_) program_->forget_socket();
  if (!home.ok()) return std::move(home).error();
  home_ = std::move(home).value();
  return {};
}

void NbdLayer::cleanup() {
  home_.reset();
  program_.reset();
}

Task<std::string> NbdLayer::default_export(Context&) {
  return Result<std::string>(settings_.options().wishes.export_name);
}

Task<std::vector<ExportEntry>> NbdLayer::list_exports(Context& context) {
  if (!settings_.is_dynamic()) {
    std::vector<ExportEntry> only(1);
    only[0].name = settings_.options().wishes.export_name;
    co_return std::move(only);
  }
  std::vector<ListAnswer> list =
      co_await list_remote_exports(context.loop(), context.gate(), settings_.options());
  std::vector<ExportEntry> exports;
  for (ListAnswer& one : list) exports.push_back({std::move(one.name), std::move(one.description)});
  co_return std::move(exports);
}

Task<DevicePtr> NbdLayer::open(Context& context) {
  if (home_) {
    std::string identity = settings_.identity(settings_.options().wishes.export_name);
    Properties properties = properties_of(home_->remote().agreement(), identity);
    properties.can_multi_conn = true;  // It is one connection for all.
    co_return std::make_unique<RemoteDevice>(context, *home_, std::move(properties));
  }
  RemoteOptions options = settings_.options();
  if (settings_.is_dynamic()) options.wishes.export_name = context.export_name;
  std::string identity = settings_.identity(options.wishes.export_name);
  auto remote = std::make_unique<RemoteExport>(context.loop(), context.gate(), context.log(),
                                               std::move(options), lost_);
  Result<void> opened = co_await remote->open().as_result();
  if (!opened.ok()) {
    co_await remote->close();
    co_await fail(std::move(opened).error());
  }
  Properties properties = properties_of(remote->agreement(), identity);
  co_return std::make_unique<RemoteDevice>(context, std::move(remote), std::move(properties));
}

}  // namespace
}  // namespace nbdkit

NBDKIT_NATIVE_PLUGIN("nbd", ::nbdkit::NbdLayer)
