// SPDX-License-Identifier: BSD-3-Clause
// Context: one connection, as the layers see it.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>

#include "async/gate.h"
#include "async/loop.h"
#include "base/log.h"
#include "block/request_ledger.h"

namespace nbdkit {

// Who is at the other end of the socket. Numbers are -1 and texts empty when they are not known.
struct Peer {
  std::string address;  // struct sockaddr as bytes, as getpeername() gave it
  std::int64_t pid = -1;
  std::int64_t uid = -1;
  std::int64_t gid = -1;
  // Whom its certificate names, and who vouches for it (RFC 4514), if it was asked for one.
  std::string tls_name;
  std::string tls_issuer;
};

// What a layer can do to the connection that it serves.
class ConnectionControl {
 public:
  // Any thread, while something is under way on the connection. With `force` not another byte is
  // sent; otherwise what the client has asked for is still answered.
  virtual void disconnect(bool force) = 0;

 protected:
  ~ConnectionControl() = default;
};

// Outlives every device that was opened with it. A filter that wants to show another export or
// access to what is below keeps a changed copy in its device.
class Context {
 public:
  Context(Loop& loop, Gate& gate, Log& log, std::uint64_t connection)
      : loop_(&loop), gate_(&gate), log_(&log), connection_(connection) {}

  Loop& loop() const { return *loop_; }
  Log& log() const { return *log_; }
  // Closes when the connection ends; sleeps end with operation_canceled then.
  Gate& gate() const { return *gate_; }
  // Counts from 1. 0 is nobody.
  std::uint64_t connection() const { return connection_; }
  BufferPool& buffers() const { return loop_->buffers(); }

  Task<void> sleep(Nanoseconds delay) const { return loop_->sleep(delay, *gate_); }
  // Runs what may block on a worker (async/loop.h).
  template <typename Function>
  Task<typename std::invoke_result_t<Function&>::value_type> blocking(Function function) const {
    return loop_->blocking(std::move(function));
  }

  std::string export_name;
  bool read_only = false;
  bool tls = false;
  std::size_t calls_max = 16;  // blocking calls under way at once (nbdkit's -t)
  bool kernel = false;         // the peer is the kernel's block device (handoff: "peer":"kernel")
  // Every write is to be durable before it is answered, whether the peer asks for it or not.
  bool write_through = false;
  // No request needs memory that is not there when the connection begins (Loop::stock).
  bool stocked = false;
  RequestLedger* ledger = nullptr;  // of a kernel's requests; outlives the connection
  Peer peer;
  ConnectionControl* control = nullptr;  // null when there is no client

 private:
  Loop* loop_;
  Gate* gate_;
  Log* log_;
  std::uint64_t connection_;
};

}  // namespace nbdkit
