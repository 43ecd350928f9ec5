// SPDX-License-Identifier: BSD-3-Clause
#include "plugin_host/call_context.h"

#include <fmt/format.h>

#include <cstdlib>
#include <mutex>
#include <utility>

namespace nbdkit {
namespace {

// The one thing that functions of C can find by themselves is their thread. Set for every call of a
// plugin: in this model without a call of the dynamic linker.
[[gnu::tls_model("initial-exec")]] constinit thread_local CallContext* current_call = nullptr;

}  // namespace

CallContext::CallContext(PluginHost& host, Session* session, Messages messages,
                         bool errno_is_preserved)
    : host_(host),
      session_(session),
      messages_(messages),
      errno_is_preserved_(errno_is_preserved),
      outer_(std::exchange(current_call, this)) {
  if (messages == Messages::hold) {
    // While the program starts a plugin may call exit() after telling why.
    static std::once_flag once;
    std::call_once(once, [] { std::atexit(&CallContext::at_exit); });
  }
}

CallContext::~CallContext() {
  current_call = outer_;
  if (messages_ == Messages::hold && !last_message_.empty()) log_error(last_message_);
}

CallContext* CallContext::current() { return current_call; }

void CallContext::at_exit() {
  CallContext* context = current_call;
  if (context == nullptr || context->messages_ != Messages::hold) return;
  if (!context->last_message_.empty()) context->log_error(context->last_message_);
}

void CallContext::log_error(std::string_view text) const {
  host_.log().write(LogLevel::error, session_ != nullptr ? std::string_view(session_->who()) : "",
                    text);
}

void CallContext::report(std::string text) {
  if (messages_ == Messages::hold) {
    if (!last_message_.empty()) log_error(last_message_);
  } else {
    log_error(text);
  }
  if (messages_ != Messages::log) last_message_ = std::move(text);
}

// The rule for errors, and the only place of it: what nbdkit_set_error said, else errno when the
// plugin says that it keeps it, else EIO.
Error CallContext::failure() const {
  int number = errno_is_preserved_ ? errno : 0;
  if (error_ != 0) number = error_;
  if (number <= 0) number = EIO;
  return Error(static_cast<std::errc>(number), {});
}

Error CallContext::failure_with_text(std::string_view what) {
  Error bare = failure();
  if (last_message_.empty()) {
    return Error(bare.code, fmt::format("{} failed: {}", what, bare.message()));
  }
  return Error(bare.code, std::exchange(last_message_, {}));
}

}  // namespace nbdkit
