// SPDX-License-Identifier: BSD-3-Clause
// StdioRelay: makes one stream socket out of a pair of pipes, files or sockets, so that the engine
// only ever sees sockets.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <optional>
#include <span>

#include "async/job.h"
#include "async/loop.h"
#include "async/thread.h"
#include "base/parse.h"
#include "base/unique_fd.h"

namespace nbdkit {

// Whether both descriptors are one and the same connected stream socket, as inetd gives it. Then no
// relay is needed.
bool is_one_socket(int in, int out);

class StdioRelay {
 public:
  static constexpr std::size_t kBufferSize = 64 * 1024;
  // What a pipe takes without blocking once it is writable at all (pipe(7), PIPE_BUF).
  static constexpr std::size_t kWriteMax = 4096;
  // How long the last replies wait for a client that does not read.
  static constexpr Seconds kFlushMax{10};

  StdioRelay(UniqueFd in, UniqueFd out) : in_(std::move(in)), out_(std::move(out)) {}
  StdioRelay(const StdioRelay&) = delete;
  StdioRelay& operator=(const StdioRelay&) = delete;
  ~StdioRelay();  // Waits for its thread, which ends soon after the socket has been closed.

  // Starts a thread and gives the socket to serve. `ended` is posted to the loop when that socket
  // has been closed and everything has been passed on.
  Result<UniqueFd> start(Loop& loop, Job& ended);

 private:
  // Bytes on their way in one direction.
  struct Pipe {
    std::array<std::byte, kBufferSize> buffer;
    std::size_t begin = 0;
    std::size_t end = 0;
    bool open = true;  // More may come.

    bool empty() const { return begin == end; }
    std::span<std::byte> waiting() { return std::span(buffer).subspan(begin, end - begin); }
    void took(ssize_t count);  // read() or recv() said so
    void passed(std::size_t count);
    void drop();
  };

  void relay();
  bool turn(Pipe& inward, Pipe& outward);

  UniqueFd in_;
  UniqueFd out_;
  UniqueFd socket_;
  std::optional<Thread> thread_;
};

}  // namespace nbdkit
