// SPDX-License-Identifier: BSD-3-Clause
// For LD_PRELOAD: counts what a process asks the C library or the kernel for memory, while another
// process says so, and writes down who asked. The file that ALLOCATIONS_FILE names is the Board,
// which both have mapped; what ALLOCATIONS_TRACES names gets the stacks of the first few.
//
// operator new comes here through malloc(). What malloc() itself asks the kernel for is not seen,
// but for that there has to be a malloc().
#undef _FILE_OFFSET_BITS  // Or mmap() is mmap64().

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

extern "C" {
// What glibc's functions are called inside.
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
}

namespace {

struct Board {
  std::atomic<std::uint32_t> counting;  // set by the test
  std::uint32_t reserved;
  std::atomic<std::uint64_t> heap;     // malloc() and its like
  std::atomic<std::uint64_t> mapping;  // mmap(), mremap(), sbrk()
  std::atomic<std::uint64_t> threads;  // pthread_create(): a stack
};

constexpr int kFrames = 24;
constexpr std::uint64_t kTraced = 8;

using MakeThread = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
using MoveBreak = void* (*)(intptr_t);

MakeThread make_thread = nullptr;
MoveBreak move_break = nullptr;
Board* board = nullptr;
int traces = -1;
std::atomic<std::uint64_t> traced{0};
__attribute__((tls_model("initial-exec"))) thread_local bool inside = false;

__attribute__((constructor)) void set_up() {
  make_thread = reinterpret_cast<MakeThread>(::dlsym(RTLD_NEXT, "pthread_create"));
  move_break = reinterpret_cast<MoveBreak>(::dlsym(RTLD_NEXT, "sbrk"));
  const char* path = ::getenv("ALLOCATIONS_FILE");
  const char* log = ::getenv("ALLOCATIONS_TRACES");
  if (path == nullptr || log == nullptr) return;
  void* frames[kFrames];
  ::backtrace(frames, kFrames);  // The first call loads a library.
  traces = ::open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  int file = ::open(path, O_RDWR | O_CLOEXEC);
  void* memory = reinterpret_cast<void*>(
      ::syscall(SYS_mmap, nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
  ::close(file);
  if (memory != MAP_FAILED) board = static_cast<Board*>(memory);
}

void note(std::atomic<std::uint64_t> Board::*counter, const char* what, std::size_t size) {
  if (board == nullptr || board->counting.load(std::memory_order_relaxed) == 0 || inside) return;
  inside = true;
  const int saved = errno;
  (board->*counter).fetch_add(1);
  if (traced.fetch_add(1) < kTraced) {
    char line[128];
    char name[16] = "?";
    ::pthread_getname_np(::pthread_self(), name, sizeof name);
    int length = std::snprintf(line, sizeof line, "%s of %zu bytes, thread %s\n", what, size, name);
    [[maybe_unused]] ssize_t written = ::write(traces, line, static_cast<std::size_t>(length));
    void* frames[kFrames];
    ::backtrace_symbols_fd(frames, ::backtrace(frames, kFrames), traces);
  }
  errno = saved;
  inside = false;
}

}  // namespace

extern "C" {

void* malloc(size_t size) {
  note(&Board::heap, "malloc", size);
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  note(&Board::heap, "calloc", count * size);
  return __libc_calloc(count, size);
}
void* realloc(void* memory, size_t size) {
  note(&Board::heap, "realloc", size);
  return __libc_realloc(memory, size);
}
void* memalign(size_t alignment, size_t size) {
  note(&Board::heap, "memalign", size);
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  note(&Board::heap, "aligned_alloc", size);
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** memory, size_t alignment, size_t size) {
  note(&Board::heap, "posix_memalign", size);
  *memory = __libc_memalign(alignment, size);
  return *memory == nullptr ? ENOMEM : 0;
}

void* mmap(void* address, size_t size, int protection, int flags, int file, off_t offset) {
  note(&Board::mapping, "mmap", size);
  return reinterpret_cast<void*>(
      ::syscall(SYS_mmap, address, size, protection, flags, file, offset));
}
void* mmap64(void* address, size_t size, int protection, int flags, int file, off64_t offset) {
  return mmap(address, size, protection, flags, file, offset);
}
void* mremap(void* old, size_t old_size, size_t size, int flags, ...) {
  va_list more;
  va_start(more, flags);
  void* wanted = (flags & MREMAP_FIXED) != 0 ? va_arg(more, void*) : nullptr;
  va_end(more);
  note(&Board::mapping, "mremap", size);
  return reinterpret_cast<void*>(::syscall(SYS_mremap, old, old_size, size, flags, wanted));
}

void* sbrk(intptr_t step) noexcept {
  note(&Board::mapping, "sbrk", static_cast<size_t>(step));
  return move_break(step);
}
int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*body)(void*),
                   void* argument) noexcept {
  note(&Board::threads, "pthread_create", 0);
  return make_thread(thread, attributes, body, argument);
}

}  // extern "C"
