// SPDX-License-Identifier: BSD-3-Clause
#include "script/opening.h"

#include <utility>

#include "block/layer.h"

namespace nbdkit {
namespace {

class Questions {
 public:
  Questions(const ScriptMethods& methods, const Script& script, ThreadModel model, bool read_only,
            ScriptHandle& opened)
      : methods_(methods),
        script_(script),
        model_(model),
        read_only_(read_only),
        opened_(opened),
        properties_(opened.properties) {}

  Result<void> ask_all() {
    NBDKIT_TRY(ask(methods_.get_size(opened_.handle), properties_.size));
    NBDKIT_TRY(ask(methods_.block_size(opened_.handle), properties_.block_size));
    NBDKIT_TRY(ask_writing());
    NBDKIT_TRY(ask_method("flush", "can_flush", properties_.can_flush));
    NBDKIT_TRY(ask_fua());
    NBDKIT_TRY(ask_bool("is_rotational", false, properties_.is_rotational));
    NBDKIT_TRY(ask_bool("can_multi_conn", false, properties_.can_multi_conn));
    // Nothing is promised about a second connection that never gets to its device.
    properties_.can_multi_conn &= model_ != ThreadModel::serialize_connections;
    NBDKIT_TRY(ask_method("extents", "can_extents", properties_.can_extents));
    NBDKIT_TRY(ask_cache());
    return ask_description();
  }

 private:
  template <typename T>
  static Result<void> ask(Result<T> answer, T& into) {
    if (!answer.ok()) return std::move(answer).error();
    into = std::move(answer).value();
    return {};
  }

  Result<void> ask_bool(std::string_view question, bool without, bool& into) {
    return ask(methods_.boolean(question, opened_.handle, without), into);
  }

  Result<void> ask_method(std::string_view method, std::string_view question, bool& into) {
    return ask_bool(question, script_.can_without_saying(method), into);
  }

  // What a read-only export cannot do is not asked for.
  Result<void> ask_writing() {
    if (read_only_) return {};
    NBDKIT_TRY(ask_method("pwrite", "can_write", properties_.can_write));
    if (!properties_.can_write) return {};
    NBDKIT_TRY(ask_method("trim", "can_trim", properties_.can_trim));
    NBDKIT_TRY(ask_method("zero", "can_zero", opened_.can_zero));
    // A script that cannot zero at all says so fast.
    return ask_bool("can_fast_zero", !opened_.can_zero, properties_.can_fast_zero);
  }

  Result<void> ask_fua() {
    if (!properties_.can_write) return {};
    ScriptMode without = properties_.can_flush ? ScriptMode::emulate : ScriptMode::none;
    NBDKIT_TRY(ask(methods_.mode("can_fua", opened_.handle, without), opened_.fua));
    properties_.can_fua = opened_.fua != ScriptMode::none;
    return {};
  }

  Result<void> ask_cache() {
    ScriptMode without =
        script_.can_without_saying("cache") ? ScriptMode::native : ScriptMode::none;
    NBDKIT_TRY(ask(methods_.mode("can_cache", opened_.handle, without), opened_.cache));
    properties_.can_cache = opened_.cache != ScriptMode::none;
    return {};
  }

  // A description is a courtesy: an export without it, or with one that the protocol cannot carry,
  // is served all the same.
  Result<void> ask_description() {
    Result<std::string> text = methods_.export_description(opened_.handle);
    if (text.ok() && text.value().size() <= Layer::kNameMax) {
      properties_.description = std::move(text).value();
    }
    return {};
  }

  const ScriptMethods& methods_;
  const Script& script_;
  const ThreadModel model_;
  const bool read_only_;
  ScriptHandle& opened_;
  Properties& properties_;
};

}  // namespace

Result<ScriptHandle> open_script(const ScriptMethods& methods, const Script& script,
                                 const Context& context, ThreadModel model) {
  ScriptHandle opened;
  Result<std::string> handle = methods.open(context.read_only, context.export_name, context.tls);
  if (!handle.ok()) {
    Error error = std::move(handle).error();
    // Every script is told of TLS. Who forbids without it is for clients with TLS only.
    const bool forbidden = error.code == std::errc::operation_not_permitted ||
                           error.code == std::errc::permission_denied;
    if (forbidden && !context.tls) error.code = kNeedsTls;
    return error;
  }
  opened.handle = std::move(handle).value();
  Result<void> asked = Questions(methods, script, model, context.read_only, opened).ask_all();
  if (!asked.ok()) {
    (void)methods.close(opened.handle);
    return std::move(asked).error();
  }
  return opened;
}

}  // namespace nbdkit
