// SPDX-License-Identifier: BSD-3-Clause
#include "plugin_host/opening.h"

#include <fmt/format.h>

#include "base/log_topics.h"
#include "block/layer.h"

namespace nbdkit {
namespace {

using Callback = int (*)(void*);

class Questions {
 public:
  Questions(CallContext& context, const CFunctions& functions, ThreadModel model, bool read_only,
            Opened& opened)
      : context_(context),
        functions_(functions),
        table_(functions.table()),
        model_(model),
        read_only_(read_only),
        opened_(opened),
        properties_(opened.properties) {}

  Result<void> ask_all() {
    NBDKIT_TRY(ask_size());
    NBDKIT_TRY(ask_block_size());
    NBDKIT_TRY(ask_writing());
    NBDKIT_TRY(
        ask_bool("can_flush", table_.can_flush, functions_.has_flush(), properties_.can_flush));
    NBDKIT_TRY(ask_bool("is_rotational", table_.is_rotational, false, properties_.is_rotational));
    NBDKIT_TRY(
        ask_bool("can_multi_conn", table_.can_multi_conn, false, properties_.can_multi_conn));
    // Nothing is promised about a second connection that never gets to its device.
    properties_.can_multi_conn &= model_ != ThreadModel::serialize_connections;
    NBDKIT_TRY(ask_bool("can_extents", table_.can_extents, table_.extents != nullptr,
                        properties_.can_extents));
    properties_.can_extents &= table_.extents != nullptr;
    NBDKIT_TRY(ask_cache());
    return ask_description();
  }

 private:
  void trace(std::string_view question) const {
    Log& log = context_.host().log();
    if (!traces_control_path(log)) return;
    const Session* session = context_.session();
    log.debug(session != nullptr ? std::string_view(session->who()) : "", "{}: {}", table_.name,
              question);
  }
  Error failed(std::string_view what) { return context_.failure_with_text(what); }
  Error wrong(std::string text) {
    context_.report(std::move(text));
    context_.set_error(EINVAL);
    return context_.failure_with_text("");
  }

  Result<void> ask_bool(std::string_view what, Callback callback, bool without, bool& answer) {
    trace(what);
    answer = without;
    if (callback == nullptr) return {};
    int result = context_.call(callback, opened_.handle);
    if (result == -1) return failed(what);
    answer = result != 0;
    return {};
  }

  // One of three, where 2 is native.
  Result<int> ask_mode(std::string_view what, Callback callback, int without) {
    trace(what);
    if (callback == nullptr) return without;
    int result = context_.call(callback, opened_.handle);
    if (result == -1) return failed(what);
    if (result < 0 || result > 2) return wrong(fmt::format("{} gave {}", what, result));
    return result;
  }

  Result<void> ask_size() {
    trace("get_size");
    std::int64_t size = context_.call(table_.get_size, opened_.handle);
    if (size == -1) return failed("get_size");
    if (size < 0) return wrong(fmt::format("get_size gave a negative size ({})", size));
    properties_.size = static_cast<std::uint64_t>(size);
    return {};
  }

  Result<void> ask_block_size() {
    trace("block_size");
    if (table_.block_size == nullptr) return {};
    BlockSize& block = properties_.block_size;
    int result = context_.call(table_.block_size, opened_.handle, &block.minimum, &block.preferred,
                               &block.maximum);
    if (result == -1) return failed("block_size");
    Result<void> checked = check_block_size(block);
    if (!checked.ok()) return wrong(checked.error().message());
    return {};
  }

  // What a read-only export cannot do is not asked for.
  Result<void> ask_writing() {
    if (read_only_) return {};
    NBDKIT_TRY(
        ask_bool("can_write", table_.can_write, functions_.has_pwrite(), properties_.can_write));
    if (!properties_.can_write) return {};
    NBDKIT_TRY(ask_bool("can_trim", table_.can_trim, functions_.has_trim(), properties_.can_trim));
    NBDKIT_TRY(ask_bool("can_zero", table_.can_zero, functions_.has_zero(), opened_.can_zero));
    opened_.can_zero &= functions_.has_zero();
    // Without a function that knows the flag every fast request fails at once, which is fast.
    NBDKIT_TRY(ask_bool("can_fast_zero", table_.can_fast_zero, !functions_.has_zero_flags(),
                        properties_.can_fast_zero));
    return ask_fua();
  }

  Result<void> ask_fua() {
    int without = functions_.has_flush() ? NBDKIT_FUA_EMULATE : NBDKIT_FUA_NONE;
    Result<int> mode = ask_mode("can_fua", table_.can_fua, without);
    if (!mode.ok()) return std::move(mode).error();
    int fua = mode.value();
    if (fua == NBDKIT_FUA_NATIVE && table_.pwrite == nullptr) fua = NBDKIT_FUA_EMULATE;
    // Promising what every such write would then fail with serves nobody.
    if (fua == NBDKIT_FUA_EMULATE && !functions_.has_flush()) fua = NBDKIT_FUA_NONE;
    opened_.fua = static_cast<FuaMode>(fua);
    properties_.can_fua = opened_.fua != FuaMode::none;
    return {};
  }

  Result<void> ask_cache() {
    int without = table_.cache != nullptr ? NBDKIT_CACHE_NATIVE : NBDKIT_CACHE_NONE;
    Result<int> mode = ask_mode("can_cache", table_.can_cache, without);
    if (!mode.ok()) return std::move(mode).error();
    opened_.cache = static_cast<CacheMode>(mode.value());
    properties_.can_cache = opened_.cache != CacheMode::none;
    return {};
  }

  Result<void> ask_description() {
    trace("export_description");
    if (table_.export_description == nullptr) return {};
    const char* text = context_.call(table_.export_description, opened_.handle);
    // A description is a courtesy: one that the protocol cannot carry is left out.
    if (text != nullptr && std::string_view(text).size() <= Layer::kNameMax) {
      properties_.description = text;
    }
    return {};
  }

  CallContext& context_;
  const CFunctions& functions_;
  const nbdkit_plugin& table_;
  const ThreadModel model_;
  const bool read_only_;
  Opened& opened_;
  Properties& properties_;
};

}  // namespace

Result<Opened> open_handle(CallContext& context, const CFunctions& functions, ThreadModel model,
                           bool read_only) {
  Opened opened;
  opened.handle = context.call(functions.table().open, read_only ? 1 : 0);
  if (opened.handle == nullptr) {
    Error error = context.failure_with_text("open");
    // The interface in C has no other way to say that an export is for clients with TLS only.
    const bool forbidden = error.code == std::errc::operation_not_permitted ||
                           error.code == std::errc::permission_denied;
    const Session* session = context.session();
    if (forbidden && session != nullptr && session->missed_tls()) error.code = kNeedsTls;
    return error;
  }
  Result<void> asked = Questions(context, functions, model, read_only, opened).ask_all();
  if (!asked.ok()) {
    if (functions.table().close != nullptr) context.call(functions.table().close, opened.handle);
    return std::move(asked).error();
  }
  return opened;
}

}  // namespace nbdkit
