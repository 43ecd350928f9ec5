// SPDX-License-Identifier: BSD-3-Clause
#include "block/layer.h"

#include <utility>

namespace nbdkit {

void Layer::attach(Environment& environment) {
  environment_ = &environment;
  declare(params_);
}

Result<bool> Layer::configure(std::string_view key, std::string_view value) {
  return params_.set(key, value);
}

Task<void> Layer::preconnect(Context&) { return Result<void>(); }

Task<std::vector<ExportEntry>> Layer::list_exports(Context& context) {
  std::string name = co_await default_export(context);
  std::vector<ExportEntry> exports(1);
  exports[0].name = std::move(name);
  co_return exports;
}

Task<std::string> Layer::default_export(Context&) { return Result<std::string>(std::string()); }

Task<DevicePtr> FilterLayer::wrap(Context&, DevicePtr& next) {
  return Result<DevicePtr>(std::move(next));
}

Task<DevicePtr> FilterLayer::open(Context& context) {
  DevicePtr next = co_await below().open(context);
  Result<DevicePtr> device = co_await wrap(context, next).as_result();
  if (!device.ok()) {
    if (next) (void)co_await next->close().as_result();  // The first failure is the one to tell.
    co_await fail(std::move(device).error());
  }
  if (contract().multi_conn == MultiConn::no) {
    device.value()->mutable_properties().can_multi_conn = false;
  }
  co_return std::move(device).value();
}

}  // namespace nbdkit
