// SPDX-License-Identifier: BSD-3-Clause
// Random traffic for the engine: a stream that cuts everything into pieces, a device that takes its
// time, and a client that knows what each of its requests has to be answered with. All of it
// follows from one seed.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "async/loop.h"
#include "async/stream.h"
#include "block/context.h"
#include "block/device.h"
#include "proto/transmission.h"
#include "server/export_info.h"
#include "server/transmission.h"

namespace nbdkit::traffic {

inline constexpr std::uint64_t kDiskSize = 4 << 20;
inline constexpr std::uint64_t kRegion = 512;  // of one type

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : random_(seed) {}
  // From 0 to below `end`.
  std::uint64_t below(std::uint64_t end) { return random_() % end; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }

 private:
  std::mt19937_64 random_;
};

// How many bytes go through at a time, about.
std::uint64_t random_scale(Dice& dice);

// What the device holds and how it fails depends on where it is asked only, so that everybody can
// know it at any time.
bool is_hole(std::uint64_t offset);
const std::string& disk();
char byte_at(std::uint64_t offset);                                 // of a read
char written_at(std::uint64_t offset);                              // what the client writes
std::uint32_t device_error(Command command, std::uint64_t offset);  // of the protocol; 0 is none

// A socket that takes and gives as little as it likes.
class CuttingStream final : public ByteStream {
 public:
  CuttingStream(UniqueFd socket, std::uint64_t scale, Dice& dice);

  Result<std::size_t> receive(std::span<iovec> into) override;
  Result<std::size_t> send(std::span<const iovec> from) override;
  int fd() const override { return stream_.fd(); }

  void fail_to_send() { broken_ = true; }
  std::uint64_t received() const { return received_; }

 private:
  std::vector<iovec> cut(std::span<const iovec> pieces);

  SocketStream stream_;
  Dice& dice_;
  std::uint64_t piece_max_;
  bool broken_ = false;
  std::uint64_t received_ = 0;
};

class SlowDevice final : public BlockDevice {
 public:
  SlowDevice(Context& context, Dice& dice);

  Task<void> pread(Request request, Reply& reply) override;
  Task<void> pwrite(Request request, Payload& payload) override;
  Task<void> flush() override { return act(Command::flush, 0); }
  Task<void> trim(Request request) override { return act(Command::trim, request.offset); }
  Task<void> zero(Request request) override { return act(Command::write_zeroes, request.offset); }
  Task<void> cache(Request request) override { return act(Command::cache, request.offset); }
  Task<void> extents(Request request, Extents& extents) override;

  std::size_t under_way() const { return under_way_; }
  std::size_t most_under_way() const { return most_under_way_; }
  std::size_t lent() const { return lent_; }

 private:
  class Loan;

  Task<void> act(Command command, std::uint64_t offset);
  Task<void> act_later(Command command, std::uint64_t offset);
  Task<void> read_later(Request request, Reply& reply);
  Task<void> write_later(Request request, Payload& payload);
  Task<void> extents_later(Request request, Extents& extents);
  Result<void> fill(Request request, Reply& reply);
  bool at_once() { return dice_.below(slowness_) < 3; }

  Context& context_;
  Dice& dice_;
  std::uint64_t slowness_;
  std::size_t under_way_ = 0;
  std::size_t most_under_way_ = 0;
  std::size_t lent_ = 0;
};

// The client: sends and receives as much as it likes, whenever it likes.
class Client final : private Timer {
 public:
  Client(Loop& loop, UniqueFd socket, Agreement agreement, std::uint64_t scale, Dice& dice);
  virtual ~Client() = default;

  // Before start().
  void add_requests(std::size_t count);
  void add_header(const RequestHeader& header);
  void add_bytes(std::string_view bytes);  // What is no request
  void cut_short();                        // The last request is not sent to its end.
  void hang_up_at_end() { hangs_up_ = true; }

  void start() { tick_at(Nanoseconds(0)); }
  // Leaves without a word.
  void vanish();
  // Reads what is still there, when the server has ended.
  void take_the_rest();

  std::size_t requests() const { return asked_.size(); }
  std::size_t answered() const { return answered_; }
  // Whether a request begins there in what it sends.
  bool is_boundary(std::uint64_t at) const;
  // The first thing that was wrong with what was received.
  const std::string& complaint() const { return complaint_; }

 private:
  struct Asked {
    RequestHeader header;
    std::uint32_t error;   // what it has to be answered with
    std::uint64_t next;    // offset of the next byte of a read
    std::uint64_t there;   // how much of the range there is
    bool partial = false;  // the error stands behind what there is
    std::size_t chunks = 0;
    MetaContextSet contexts = {};  // whose status has not come
    bool answered = false;
  };

  void expired() noexcept override;
  void tick_at(Nanoseconds delay);
  void send_some();
  void receive_some(std::size_t most);
  RequestHeader random_request();
  bool has_payload(const RequestHeader& header) const;
  std::uint64_t there(const RequestHeader& header) const;
  std::uint32_t right_answer(const RequestHeader& header) const;
  // Takes one simple reply or chunk from in_; how much, or 0 when it is not complete.
  std::size_t take(std::string_view in);
  std::size_t take_simple(std::string_view in);
  std::size_t take_chunk(std::string_view in);
  void check_chunk(Asked& asked, ChunkType type, std::string_view body);
  void check_error(Asked& asked, ChunkType type, std::string_view body);
  void check_data(Asked& asked, std::uint64_t offset, std::string_view data);
  void check_hole(Asked& asked, std::uint64_t offset, std::uint64_t length);
  void check_status(Asked& asked, std::string_view body);
  Asked* find(std::uint64_t cookie);
  void finish(Asked& asked);
  void expect(bool right, const char* what);

  Loop& loop_;
  UniqueFd socket_;
  const Agreement agreement_;
  Dice& dice_;
  const std::uint64_t scale_;
  const std::uint64_t piece_max_;
  const bool reads_lazily_;
  const std::size_t header_size_;  // of a request
  bool hangs_up_ = false;
  std::string out_;
  std::size_t sent_ = 0;
  std::vector<std::uint64_t> boundaries_;
  std::vector<Asked> asked_;
  std::string in_;
  std::size_t answered_ = 0;
  std::string complaint_;
};

}  // namespace nbdkit::traffic
