// SPDX-License-Identifier: BSD-3-Clause
// WireServer: an NBD server that says exactly what a test wants said, valid or not.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "proto/handshake.h"
#include "proto/transmission.h"

namespace nbdkit {

// The bytes of a wire struct or of a number.
template <typename Wire>
std::string wire_bytes(const Wire& wire) {
  return std::string(reinterpret_cast<const char*>(&wire), sizeof wire);
}
template <typename T>
std::string wire_number(T number) {
  return wire_bytes(Be<T>(number));
}

// Blocking; for a thread of its own. A client that is silent for kPatienceSeconds fails the test.
class WireServer {
 public:
  static constexpr int kPatienceSeconds = 30;

  struct Export {
    std::uint64_t size = 1 << 20;
    std::uint16_t flags = transmission_flag::kHasFlags | transmission_flag::kFlush |
                          transmission_flag::kFua | transmission_flag::kTrim |
                          transmission_flag::kWriteZeroes | transmission_flag::kFastZero |
                          transmission_flag::kCache;
    bool structured = false;
    bool extended = false;
    std::optional<std::uint32_t> base_allocation;
    std::string block_sizes;  // what NBD_INFO_BLOCK_SIZE has; empty: nothing is said
  };
  struct OptionAsked {
    Option option;
    std::string data;
  };

  explicit WireServer(UniqueFd socket);
  ~WireServer() { hang_up(); }

  void send(std::string_view bytes);
  std::string receive(std::size_t length);
  bool at_end();  // the client has hung up
  // From now on the client may hang up half-way, and then everything is over without a failure.
  void let_client_leave() { may_leave_ = true; }
  void hang_up();

  // Handshake.
  std::uint32_t greet(std::uint16_t flags = kFixedNewstyle | kNoZeroes);
  OptionAsked option();
  void answer(Option option, OptionReply type, std::string_view data = {});
  static std::string export_info(const Export& about);
  // All of it, as a good server does, up to the first request.
  void shake_hands(const Export& about);

  // Transmission, in the form that was agreed upon. A client that has gone seems to say so.
  RequestHeader request();
  void simple(Cookie cookie, std::uint32_t error = 0, std::string_view data = {});
  void chunk(Cookie cookie, ChunkType type, std::string_view body, bool done = true);
  // The rest of a chunk's body.
  static std::string data_body(std::uint64_t offset, std::string_view data);
  static std::string hole_body(std::uint64_t offset, std::uint32_t length);

 private:
  UniqueFd socket_;
  bool extended_ = false;
  bool may_leave_ = false;
  bool gone_ = false;
};

// Runs a script against one end of a connection.
class ServerThread {
 public:
  ServerThread(UniqueFd socket, std::function<void(WireServer&)> script)
      : server_(std::move(socket)), thread_([this, script] { script(server_); }) {}
  ~ServerThread() { join(); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }

 private:
  WireServer server_;
  std::thread thread_;
};

}  // namespace nbdkit
