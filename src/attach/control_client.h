// SPDX-License-Identifier: BSD-3-Clause
// ControlClient: asks a device's keeper over its control socket. Every call blocks.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "base/parse.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace nbdkit {

class ControlClient {
 public:
  // Longer than anything a healthy keeper takes for an answer that needs no work.
  static constexpr Seconds kAnswerMax{5};
  static constexpr std::size_t kAnswerSizeMax = 1024 * 1024;

  // no_such_file_or_directory or connection_refused when there is no keeper.
  static Result<ControlClient> connect(const std::string& path);

  // What the keeper answers, or the Error that it reports, exit code included. timed_out when it
  // does not answer.
  Result<Json> call(std::string_view method, Json params, Milliseconds limit);

  // Until the keeper's process has ended; false when it lives on.
  bool wait_for_end(Milliseconds limit) const;

 private:
  ControlClient(UniqueFd socket, UniqueFd keeper)
      : socket_(std::move(socket)), keeper_(std::move(keeper)) {}
  Result<std::string> receive_line(Milliseconds limit);

  UniqueFd socket_;
  UniqueFd keeper_;  // pidfd of whoever listens; invalid when it could not be had
  std::int64_t next_id_ = 1;
};

}  // namespace nbdkit
