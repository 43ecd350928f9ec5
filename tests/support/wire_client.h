// SPDX-License-Identifier: BSD-3-Clause
// WireClient: an NBD client that says exactly what a test wants said, valid or not.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/parse.h"
#include "base/unique_fd.h"
#include "proto/handshake.h"
#include "proto/meta_contexts.h"
#include "proto/transmission.h"
#include "support/wire_tls.h"

namespace nbdkit {

// Blocking; a server that is silent for kPatience fails the test and ends the stream.
class WireClient {
 public:
  static constexpr int kPatienceSeconds = 30;

  struct OptionAnswer {
    OptionReply type;
    std::string data;
  };
  struct StatusExtent {
    std::uint64_t length;
    std::uint64_t flags;
    bool operator==(const StatusExtent&) const = default;
  };
  // One reply, put together from its chunks.
  struct Answer {
    std::uint64_t cookie = 0;
    std::uint32_t error = 0;
    std::string error_text;
    std::optional<std::uint64_t> error_offset;
    bool structured = false;
    std::string data;                   // of a read
    std::vector<StatusExtent> extents;  // of a block status: base:allocation
    std::vector<StatusExtent> depths;   // the same: qemu:allocation-depth
    std::vector<ChunkType> chunks;

    std::vector<StatusExtent>& status(std::uint32_t context);
  };

  explicit WireClient(UniqueFd socket);

  // Bytes as they are.
  void send(std::string_view bytes);
  std::string receive(std::size_t length);
  bool at_end();  // the server has closed, waiting for it if need be
  bool closes_within(Milliseconds time);
  void shut_down_writing();
  void close() { socket_.reset(); }
  int fd() const { return socket_.get(); }

  // Handshake.
  std::uint16_t greet(std::uint32_t client_flags = kFixedNewstyle | kNoZeroes);
  void send_option(Option option, std::string_view data);
  OptionAnswer option_answer();
  // Sends the option and takes all answers to the last.
  std::vector<OptionAnswer> option(Option option, std::string_view data = {});
  // What is sent and received from now on has extended headers, when the server agrees.
  OptionReply use_extended_headers();
  // STARTTLS and the handshake of TLS: "", or why it has failed. Bytes go through TLS from then on.
  std::string start_tls(const WireTls::Identity& identity);
  WireTls& tls() { return *tls_; }
  // GO with everything that is asked for before it; the INFO_EXPORT, or size 0 and flags 0.
  struct Export {
    std::uint64_t size = 0;
    std::uint16_t flags = 0;
  };
  Export go(std::string_view name = {}, bool structured = false, bool status = false);
  // The same behind greet(), or start_tls().
  Export choose(std::string_view name = {}, bool structured = false, bool status = false);

  // Transmission.
  static std::string packet(Command command, std::uint64_t cookie, std::uint64_t offset,
                            std::uint32_t length, std::uint16_t flags = 0,
                            std::string_view payload = {});
  void request(Command command, std::uint64_t cookie, std::uint64_t offset, std::uint64_t length,
               std::uint16_t flags = 0, std::string_view payload = {});
  // `length` is that of the read that is answered, for a simple reply does not say.
  Answer answer(std::uint32_t length = 0);

  // One request and its answer.
  Answer read(std::uint64_t offset, std::uint64_t length, std::uint16_t flags = 0);
  Answer write(std::uint64_t offset, std::string_view data, std::uint16_t flags = 0);
  Answer call(Command command, std::uint64_t offset = 0, std::uint64_t length = 0,
              std::uint16_t flags = 0);

  static std::string go_data(std::string_view name, std::vector<Info> infos = {});
  static std::string meta_data(std::string_view name, std::vector<std::string> queries);

 private:
  struct Chunk {
    std::uint16_t flags;
    ChunkType type;
    Cookie cookie;
    std::uint64_t length;
  };

  template <typename Wire>
  Wire receive_wire();
  template <typename Wire>
  Chunk receive_chunk(std::uint32_t magic);
  void take_chunk(const Chunk& chunk, Answer& answer, std::uint64_t start);
  static void take_error(std::string_view body, bool with_offset, Answer& answer);

  long receive_some(char* into, std::size_t length);

  UniqueFd socket_;
  std::unique_ptr<WireTls> tls_;
  std::string ahead_;  // received and not yet taken
  bool extended_ = false;
  std::uint64_t next_cookie_ = 1000;
};

}  // namespace nbdkit
