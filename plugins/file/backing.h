// SPDX-License-Identifier: BSD-3-Clause
// Backing: one open file, shared by all connections that use it.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "block/extents.h"
#include "block/request.h"
#include "open_file.h"
#include "sync.h"

namespace nbdkit {

enum class Access { normal, random, sequential };

// Thread-safe. What is refused once as unsupported is not tried again. Errors name the file.
//
// After a failed write-back Linux takes the pages for clean and tells of the failure once, so a
// second flush would succeed with the data gone. Therefore a Backing that failed to flush never
// succeeds again: not for flush(), not for FUA.
class Backing {
 public:
  // `keep_cached` false: keeps the page cache free of what was read and written.
  Backing(OpenedFile file, Access access, bool keep_cached);
  Backing(const Backing&) = delete;
  Backing& operator=(const Backing&) = delete;

  const OpenedFile& file() const { return file_; }

  // Requests that direct access cannot take are an Error.
  Result<void> check_alignment(const Request& request) const;

  // Any thread; never wait for a disk. How many bytes were done at once: the rest, and whatever
  // error there may be, is for the calls below.
  std::size_t read_now(std::uint64_t offset, std::span<std::byte> bytes);
  std::size_t write_now(std::uint64_t offset, std::span<const std::byte> bytes);

  // On a worker.
  Result<void> read(std::uint64_t offset, std::span<std::byte> bytes);
  Result<void> write(std::uint64_t offset, std::span<const std::byte> bytes, bool fua);
  Result<void> flush();
  Result<void> trim(Request request);
  Result<void> zero(Request request);
  Result<void> cache(Request request);
  Result<void> extents(Request request, Extents& extents);

 private:
  struct Written {
    std::uint64_t offset;
    std::uint64_t length;
  };
  // How a way to do something ended: some file systems and devices do not know it.
  enum class Way { taken, unsupported };

  Error failed(std::string_view what, int number) const;
  Error already_lost() const;

  // Splits what lies on both sides of direct_end_.
  template <typename Bytes, typename Part>
  Result<void> in_parts(std::uint64_t offset, Bytes bytes, Part part);
  Result<void> read_part(int fd, std::uint64_t offset, std::span<std::byte> bytes);
  Result<void> write_through(std::uint64_t offset, std::span<const std::byte> bytes, int flags);
  Result<void> write_part(int fd, std::uint64_t offset, std::span<const std::byte> bytes,
                          int flags);
  Result<void> write_durably(std::uint64_t offset, std::span<const std::byte> bytes);
  Result<void> finish(const Request& request);  // FUA of what is no write
  void written(std::uint64_t offset, std::uint64_t length);
  void drop_written();

  Result<Way> zero_file(Request request);
  Result<Way> zero_block_device(Request request);
  Result<Way> allocate(std::string_view what, std::atomic<bool>& supported, int mode,
                       Request request);
  Result<Way> device_call(std::string_view what, std::atomic<bool>& supported, unsigned long call,
                          std::uint64_t offset, std::uint64_t end);
  Result<void> write_zeroes(std::uint64_t offset, std::uint64_t end);

  const OpenedFile file_;
  const bool keep_cached_;
  // Behind this the page cache is used: the last page, when direct access cannot reach its end.
  // Never both for one page, because the cache would write back what it has of all of it.
  const std::uint64_t direct_end_;

  std::atomic<bool> can_read_now_;
  std::atomic<bool> can_write_now_;
  std::atomic<bool> can_punch_{true};
  std::atomic<bool> can_zero_range_{true};
  std::atomic<bool> can_allocate_{true};
  std::atomic<bool> can_discard_{true};
  std::atomic<bool> can_zero_out_{true};
  Sync sync_;

  std::mutex written_mutex_;
  std::deque<Written> written_;  // On its way to the disk, for keep_cached false.
};

}  // namespace nbdkit
