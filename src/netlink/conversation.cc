// SPDX-License-Identifier: BSD-3-Clause
#include "netlink/conversation.h"

#include <linux/netlink.h>

#include <chrono>

namespace nbdkit {
namespace {

using Clock = std::chrono::steady_clock;

Error lost() {
  return Error(std::errc::io_error, "the kernel's answer was lost: see --list for what it did");
}

// Takes what belongs to `sequence` out of one datagram. True when the acknowledgement was there.
Result<bool> take_messages(NetlinkBytes datagram, std::uint32_t sequence, KernelAnswer& answer) {
  auto messages = parse_datagram(datagram);
  if (!messages.ok()) return std::move(messages).error();
  bool ended = false;
  for (NetlinkMessage& message : messages.value()) {
    if (message.type == NLMSG_OVERRUN) return lost();
    if (message.sequence != sequence || ended) continue;
    if (message.is_ack) {
      answer.refusal = {message.error, std::move(message.words)};
      ended = true;
    } else if (message.type >= NLMSG_MIN_TYPE) {
      answer.messages.push_back(std::move(message));
    }
  }
  answer.datagrams.push_back(std::move(datagram));
  return ended;
}

}  // namespace

Result<KernelAnswer> Conversation::ask(
    const std::function<NetlinkBytes(std::uint32_t sequence)>& build, Nanoseconds limit) {
  const auto until = Clock::now() + limit;
  const std::uint32_t sequence = ++sequence_;
  NBDKIT_TRY(socket_->send(build(sequence)));
  KernelAnswer answer;
  std::size_t bytes = 0;
  for (unsigned strays = 0; strays < kStrayMax && bytes < kAnswerMax;) {
    auto datagram = socket_->receive(std::max(Nanoseconds(0), Nanoseconds(until - Clock::now())));
    if (!datagram.ok()) {
      if (datagram.error().code == std::errc::no_buffer_space) return lost();
      return std::move(datagram).error();
    }
    const std::size_t length = datagram.value().size();
    const std::size_t messages = answer.messages.size();
    auto ended = take_messages(std::move(datagram).value(), sequence, answer);
    if (!ended.ok()) return std::move(ended).error();
    if (ended.value()) return answer;
    if (answer.messages.size() > messages) {
      bytes += length;
    } else {
      answer.datagrams.pop_back();
      ++strays;
    }
  }
  return Error(std::errc::bad_message, "the kernel's answer does not end");
}

}  // namespace nbdkit
