// SPDX-License-Identifier: BSD-3-Clause
// Gate: the end of a group of work. Work enters; once the gate is closed nothing more does, sleeps
// end with operation_canceled, and drained() waits for what is still inside.
#pragma once

#include <cstddef>

#include "async/job.h"
#include "async/task.h"

namespace nbdkit {

class Loop;

// One loop's; its thread only. Must be empty when it is destroyed, with nothing asleep on it.
class Gate {
 public:
  explicit Gate(Loop& loop) : loop_(loop) {}
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  ~Gate();

  bool closed() const { return closed_; }
  std::size_t inside() const { return inside_; }

  // False when closed. Whoever entered leaves exactly once.
  [[nodiscard]] bool enter();
  void leave();

  // Leaves at the end of its life; for who has entered.
  class Pass {
   public:
    explicit Pass(Gate& gate) : gate_(gate) {}
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    ~Pass() { gate_.leave(); }

   private:
    Gate& gate_;
  };

  void close();

  // Closes, and finishes when nothing is inside. One waiter at a time.
  Task<void> drained();

  // Something that a closing gate has to interrupt, once.
  class Interruptible {
   public:
    explicit Interruptible(Gate& gate);
    Interruptible(const Interruptible&) = delete;
    Interruptible& operator=(const Interruptible&) = delete;

   protected:
    ~Interruptible();
    virtual void interrupt() noexcept = 0;

   private:
    friend class Gate;
    void unlink();

    Gate& gate_;
    bool linked_ = true;
    Interruptible* previous_ = nullptr;
    Interruptible* next_ = nullptr;
  };

 private:
  class Drain;

  Loop& loop_;
  std::size_t inside_ = 0;
  bool closed_ = false;
  Interruptible* first_ = nullptr;
  Drain* waiter_ = nullptr;
};

}  // namespace nbdkit
