// SPDX-License-Identifier: BSD-3-Clause
// HandoffPeer: one end of a control socket that says exactly what a test wants said, valid or not.
// Written from docs/handoff-protocol.md, without the code under test.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"

namespace nbdkit {

// The ends of a new control socket.
struct HandoffSockets {
  HandoffSockets();
  UniqueFd ours;
  UniqueFd theirs;
};

class HandoffPeer {
 public:
  static constexpr int kPatienceSeconds = 30;

  struct Header {
    std::uint32_t magic = 0x4e424448;
    std::uint16_t version = 1;
    std::uint16_t kind = 1;
    std::uint32_t flags = 0;
    std::uint64_t sequence = 1;
    int length_off_by = 0;  // what the length says beyond the body's
  };
  struct Message {
    std::uint16_t kind = 0;
    std::uint32_t flags = 0;
    std::uint64_t sequence = 0;
    std::string body;
    UniqueFd descriptor;
  };

  explicit HandoffPeer(UniqueFd socket);

  static std::string packet(const Header& header, std::string_view body);
  // True when the kernel took it.
  bool send(std::string_view packet, const std::vector<int>& descriptors = {});
  bool send(const Header& header, std::string_view body, const std::vector<int>& descriptors = {}) {
    return send(packet(header, body), descriptors);
  }
  // A request with one descriptor or none, and the flags that belong to it; the answer's body.
  Message ask(std::string_view body, int descriptor = -1);
  // The next message. Silence or the end of the stream fails the test.
  Message receive();
  bool at_end();

  int fd() const { return socket_.get(); }
  void close() { socket_.reset(); }

 private:
  UniqueFd socket_;
  std::uint64_t next_sequence_ = 100;
};

}  // namespace nbdkit
