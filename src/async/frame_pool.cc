// SPDX-License-Identifier: BSD-3-Clause
#include "async/frame_pool.h"

#include <array>
#include <new>
#include <utility>

#include "base/pooling.h"

namespace nbdkit {
namespace {

constexpr std::size_t kStep = 64;
constexpr std::size_t kClasses = 32;  // Frames over 2 KiB are rare and go to the heap.

struct Node {
  Node* next;
};

using FreeLists = std::array<Node*, kClasses>;

// Two objects and this model, because every frame comes by here: beside a destructor, or as in a
// library that may be loaded late, each access would first call the dynamic linker.
[[gnu::tls_model("initial-exec")]] constinit thread_local FreeLists free_lists{};

struct ReleasedWithTheThread {
  ~ReleasedWithTheThread() {
    for (Node*& node : free_lists) {
      while (node != nullptr) ::operator delete(std::exchange(node, node->next));
    }
  }
  void begin() {}  // What is never used is never destroyed.
};
thread_local ReleasedWithTheThread released;

}  // namespace

void* frame_pool_get(std::size_t size) {
  std::size_t slot = (size + kStep - 1) / kStep;
  if (!kPooled || slot >= kClasses) return ::operator new(size);
  if (Node* node = free_lists[slot]) {
    free_lists[slot] = node->next;
    return node;
  }
  return ::operator new(slot* kStep);
}

void frame_pool_put(void* frame, std::size_t size) noexcept {
  std::size_t slot = (size + kStep - 1) / kStep;
  if (!kPooled || slot >= kClasses) return ::operator delete(frame);
  auto* node = static_cast<Node*>(frame);
  if (free_lists[slot] == nullptr) released.begin();
  node->next = free_lists[slot];
  free_lists[slot] = node;
}

void frame_pool_stock(std::size_t size_max, std::size_t count) {
  for (std::size_t size = kStep; kPooled && size <= size_max; size += kStep) {
    for (std::size_t i = 0; i < count; ++i) frame_pool_put(::operator new(size), size);
  }
}

}  // namespace nbdkit
