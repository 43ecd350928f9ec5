// SPDX-License-Identifier: BSD-3-Clause
// Conversation: requests to the kernel and their answers, matched by sequence number.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/result.h"
#include "netlink/nbd_explain.h"
#include "netlink/nbd_messages.h"
#include "netlink/netlink_socket.h"

namespace nbdkit {

// What the kernel said to one request: its acknowledgement, and all messages that came before it.
struct KernelAnswer {
  Refusal refusal;  // error 0: it was carried out
  std::vector<NetlinkMessage> messages;
  std::vector<NetlinkBytes> datagrams;  // which the messages are views of
};

// Blocks; one thread at a time.
class Conversation {
 public:
  static constexpr std::size_t kAnswerMax = 4 * 1024 * 1024;  // bytes: all devices of a big system
  static constexpr unsigned kStrayMax = 1000;  // datagrams that answer something else

  explicit Conversation(std::unique_ptr<NetlinkSocket> socket) : socket_(std::move(socket)) {}

  // `build` makes the request with the sequence number that it gets. An Error says that no answer
  // came: whether the request was carried out is not known then. timed_out after `limit`.
  Result<KernelAnswer> ask(const std::function<NetlinkBytes(std::uint32_t sequence)>& build,
                           Nanoseconds limit);

 private:
  std::unique_ptr<NetlinkSocket> socket_;
  std::uint32_t sequence_ = 0;
};

}  // namespace nbdkit
