// SPDX-License-Identifier: BSD-3-Clause
// ScriptConnection: which of a connection's calls of a script may run at the same time.
#pragma once

#include <string>
#include <type_traits>
#include <utility>

#include "async/call_queue.h"
#include "block/connection_turn.h"
#include "block/context.h"
#include "block/thread_model.h"
#include "script/methods.h"

namespace nbdkit {

// What all connections of a script share.
struct ScriptQueues {
  CallQueue all_calls{1};  // up to serialize_all_requests
  ConnectionTurn turn;     // serialize_connections
};

// Its loop only. With serialize_connections whoever makes one has taken the turn, and it is given
// back in the end.
class ScriptConnection {
 public:
  // All that is passed outlives it.
  ScriptConnection(const ScriptRunner& runner, ScriptQueues& queues, ThreadModel model,
                   Context& context, std::string_view name)
      : context_(context),
        name_(name),
        methods_(runner, context.control),
        turn_(model == ThreadModel::serialize_connections ? &queues.turn : nullptr),
        own_calls_(model == ThreadModel::parallel ? context.calls_max : 1),
        queue_(model <= ThreadModel::serialize_all_requests ? queues.all_calls : own_calls_) {}
  ScriptConnection(const ScriptConnection&) = delete;
  ScriptConnection& operator=(const ScriptConnection&) = delete;
  ~ScriptConnection() {
    if (turn_ != nullptr) turn_->give_back();
  }

  // Runs `function(const ScriptMethods&)` on a worker when its turn has come, and ends with the
  // Result<T> it returns.
  template <typename Function>
  auto run(Function function) {
    return queue_.run(context_.loop(), [this, function = std::move(function)]() mutable {
      return function(methods_);
    });
  }

  void tell(const Error& error) const {
    context_.log().error(fmt::format("{}.{}", name_, context_.connection()), "{}", error.message());
  }

 private:
  Context& context_;
  const std::string_view name_;
  const ScriptMethods methods_;
  ConnectionTurn* const turn_;
  CallQueue own_calls_;
  CallQueue& queue_;
};

}  // namespace nbdkit
