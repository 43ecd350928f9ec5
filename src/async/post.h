// SPDX-License-Identifier: BSD-3-Clause
// post(): runs a function on another loop's thread. For control paths; it allocates.
#pragma once

#include <utility>

#include "async/job.h"
#include "async/loop.h"

namespace nbdkit {

// Functions posted from one thread to one loop run in that order.
template <typename Function>
void post(Loop& loop, Function function) {
  class FunctionJob final : public Job {
   public:
    explicit FunctionJob(Function f) : function_(std::move(f)) {}
    void run() noexcept override {
      function_();
      delete this;
    }

   private:
    ~FunctionJob() = default;
    Function function_;
  };
  loop.post(*new FunctionJob(std::move(function)));
}

}  // namespace nbdkit
