// SPDX-License-Identifier: BSD-3-Clause
// LoadConnection: one connection under load. Sends and receives in batches, so that the server is
// the limit and not the client.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/unique_fd.h"
#include "bench/load_options.h"
#include "bench/load_tls.h"

namespace nbdkit::bench {

// Used by one thread; what others may look at is atomic. What goes wrong ends the program.
class LoadConnection {
 public:
  // Connects and shakes hands, or takes over `options.fds[number]`.
  LoadConnection(const LoadOptions& options, unsigned number);

  // Keeps the requests in flight until `stop` is true and all of them have been answered.
  void run(const std::atomic<bool>& stop);
  // A few reads one after another, for a connection that stays idle afterwards.
  void read_once(unsigned times);

  std::uint64_t done() const { return done_.load(std::memory_order_relaxed); }
  const std::vector<std::uint32_t>& latencies_ns() const { return latencies_ns_; }

 private:
  struct Slot {
    std::uint64_t begun_ns = 0;
    bool write = false;
  };

  void shake_hands();
  void start_tls();
  void get(void* to, std::size_t length);
  void put(const void* from, std::size_t length);
  void begin_requests();
  void begin(unsigned slot);
  void send_all();
  bool take_replies();
  std::size_t reply_size(std::span<const std::byte> bytes, unsigned& slot) const;
  void receive(int flags);
  std::uint64_t next_block();

  const LoadOptions& options_;
  UniqueFd socket_;
  std::unique_ptr<LoadTls> tls_;
  std::uint64_t size_;  // bytes
  std::uint64_t random_;
  std::uint64_t sequence_;
  std::vector<Slot> slots_;
  std::vector<unsigned> free_;
  std::vector<std::byte> payload_;
  std::vector<std::byte> out_;
  std::vector<std::byte> in_;
  std::size_t in_begin_ = 0;
  std::size_t in_end_ = 0;
  std::atomic<std::uint64_t> done_{0};
  std::vector<std::uint32_t> latencies_ns_;
};

// Says what has failed, and why, and ends the program with 1.
[[noreturn]] void give_up(const char* what);

}  // namespace nbdkit::bench
