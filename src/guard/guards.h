// SPDX-License-Identifier: BSD-3-Clause
// Guards: what keeps a process serving when the machine has no memory left, because the memory that
// it needs could only be had by the very requests that wait for it (swap).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace nbdkit {

// Whether a process is guarded; force: also when not all of it can be had.
enum class SwapMode { off, on, force };

struct Guard {
  std::string name;
  std::string wanted;
  std::string got;
  std::string why_not;  // one sentence part; empty: it is there
  std::string remedy;   // what the administrator can do

  bool missing() const { return !why_not.empty(); }
};

// The three steps come in this order, after the last fork, in the process that they are for.
// Nothing fails: what cannot be had is a Guard that is missing.
class Guards {
 public:
  // Of each thread that serves, the main one's part included.
  static constexpr std::size_t kStackSize = 256 * 1024;
  // Kept ready in malloc's arena, so that it need not ask the kernel: half of it is for the stock
  // of a loop and a connection.
  static constexpr std::size_t kWarmBytes = 5 << 20;
  // What may still be added to the data of the process when all is set up.
  static constexpr std::size_t kMarginBytes = 64 << 20;
  // How long a thread may keep a CPU to itself before it is one among others again.
  static constexpr unsigned kRealtimeMaxUs = 500'000;

  // In front of the loss of root's rights and of the first thread.
  void take_rights();
  // Instead of all of these, for whoever serves a kernel: its threads are not to wait for pages
  // that only they can write.
  void mind_the_kernel() { flush_flag(); }
  // After it, and also in front of the first thread. Those that serve are real-time from now on.
  void lock();
  // When every thread is there.
  void bound();

  // What others know: whether what is to be served is fit for it.
  void add(Guard guard) { guards_.push_back(std::move(guard)); }

  std::span<const Guard> all() const { return guards_; }
  bool complete() const;
  // One sentence for each that is missing.
  std::string missing() const;

 private:
  void flush_flag();
  void spare_from_oom();
  void lock_memory();
  void be_realtime();

  std::vector<Guard> guards_;
};

Json to_json(std::span<const Guard> guards);
Result<std::vector<Guard>> parse_guards(const Json& json);
// A table, for people.
std::string describe(std::span<const Guard> guards);

// In a child of its own, which ends then: all that can be had here and now.
Result<std::vector<Guard>> try_guards();

}  // namespace nbdkit
