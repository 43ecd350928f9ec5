// SPDX-License-Identifier: BSD-3-Clause
// CConnection: the way of one connection's calls to the plugin: which queue they wait in and what
// the plugin can ask about the caller.
#pragma once

#include <cstddef>
#include <optional>
#include <type_traits>
#include <utility>

#include "async/call_queue.h"
#include "base/clock.h"
#include "plugin_host/c_plugin.h"
#include "plugin_host/call_context.h"
#include "plugin_host/inline_rule.h"
#include "plugin_host/session.h"

namespace nbdkit {

// Its loop only. With serialize_connections whoever makes one has taken the turn, and it is given
// back in the end.
class CConnection {
 public:
  CConnection(CPlugin& plugin, Context& context);
  CConnection(const CConnection&) = delete;
  CConnection& operator=(const CConnection&) = delete;
  ~CConnection();

  // Runs `function(CallContext&)` on a worker and ends with the Result<T> it returns.
  template <typename Function>
  auto run(Messages messages, Function function) {
    return queue_.run(session_.loop(), [this, messages, function = std::move(function)]() mutable {
      CallContext context(session_.host(), &session_, messages, errno_is_preserved_);
      return function(context);
    });
  }

  // The same for `bytes` of data, on the loop itself while the calls that `rule` knows of are
  // short.
  template <typename Function>
  auto run_data(InlineRule& rule, std::size_t bytes, Function function) {
    auto call = [this, &rule, bytes, function = std::move(function)]() mutable {
      CallContext context(session_.host(), &session_, Messages::log, errno_is_preserved_);
      const Nanoseconds begin = monotonic_now();
      auto result = function(context);
      const Nanoseconds end = monotonic_now();
      rule.learn(end - begin, bytes, end);
      return result;
    };
    using R = std::invoke_result_t<decltype(call)&>;
    if (rule.allows()) {
      std::optional<R> result = queue_.run_here(session_.loop(), call);
      if (result) return Task<typename R::value_type>(std::move(*result));
    }
    return queue_.run(session_.loop(), std::move(call));
  }

  CPlugin& plugin() const { return plugin_; }
  const Context& context() const { return session_.context(); }

 private:
  CPlugin& plugin_;
  Session session_;
  const bool errno_is_preserved_;
  CallQueue own_calls_;
  CallQueue& queue_;
};

}  // namespace nbdkit
