// SPDX-License-Identifier: BSD-3-Clause
#include "support/handoff_peer.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cstring>

#include "base/check.h"

namespace nbdkit {
namespace {

constexpr std::size_t kHeaderSize = 24;

std::string big_endian(std::uint64_t value, std::size_t size) {
  std::string bytes(size, '\0');
  for (; size > 0; value >>= 8) bytes[--size] = static_cast<char>(value & 0xff);
  return bytes;
}

std::uint64_t number_at(const std::string& bytes, std::size_t from, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = from; i < from + size; ++i) {
    value = value << 8 | static_cast<unsigned char>(bytes[i]);
  }
  return value;
}

}  // namespace

HandoffSockets::HandoffSockets() {
  std::array<int, 2> ends;
  NBDKIT_CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
  ours.reset(ends[0]);
  theirs.reset(ends[1]);
}

HandoffPeer::HandoffPeer(UniqueFd socket) : socket_(std::move(socket)) {
  timeval patience{kPatienceSeconds, 0};
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
}

std::string HandoffPeer::packet(const Header& header, std::string_view body) {
  std::uint64_t length = body.size() + static_cast<std::uint64_t>(header.length_off_by);
  return big_endian(header.magic, 4) + big_endian(header.version, 2) + big_endian(header.kind, 2) +
         big_endian(header.flags, 4) + big_endian(length, 4) + big_endian(header.sequence, 8) +
         std::string(body);
}

bool HandoffPeer::send(std::string_view packet, const std::vector<int>& descriptors) {
  iovec piece{const_cast<char*>(packet.data()), packet.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  std::vector<char> control(CMSG_SPACE(descriptors.size() * sizeof(int)));
  if (!descriptors.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
    std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size() * sizeof(int));
  }
  return ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL) == static_cast<ssize_t>(packet.size());
}

HandoffPeer::Message HandoffPeer::receive() {
  std::string bytes(70'000, '\0');
  iovec piece{bytes.data(), bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control;
  msghdr packet{};
  packet.msg_iov = &piece;
  packet.msg_iovlen = 1;
  packet.msg_control = control.data();
  packet.msg_controllen = control.size();
  ssize_t got = ::recvmsg(socket_.get(), &packet, MSG_CMSG_CLOEXEC);
  EXPECT_GE(got, static_cast<ssize_t>(kHeaderSize)) << std::strerror(errno);
  if (got < static_cast<ssize_t>(kHeaderSize)) return {};
  bytes.resize(static_cast<std::size_t>(got));
  EXPECT_EQ(number_at(bytes, 0, 4), 0x4e424448u);
  EXPECT_EQ(number_at(bytes, 4, 2), 1u);
  EXPECT_EQ(number_at(bytes, 12, 4), bytes.size() - kHeaderSize);
  Message message;
  message.kind = static_cast<std::uint16_t>(number_at(bytes, 6, 2));
  message.flags = static_cast<std::uint32_t>(number_at(bytes, 8, 4));
  message.sequence = number_at(bytes, 16, 8);
  message.body = bytes.substr(kHeaderSize);
  if (const cmsghdr* rights = CMSG_FIRSTHDR(&packet)) {
    int descriptor;
    std::memcpy(&descriptor, CMSG_DATA(rights), sizeof descriptor);
    message.descriptor.reset(descriptor);
  }
  EXPECT_EQ(message.flags, message.descriptor ? 1u : 0u);
  return message;
}

HandoffPeer::Message HandoffPeer::ask(std::string_view body, int descriptor) {
  Header header;
  header.sequence = next_sequence_++;
  header.flags = descriptor >= 0 ? 1 : 0;
  std::vector<int> descriptors;
  if (descriptor >= 0) descriptors.push_back(descriptor);
  EXPECT_TRUE(send(header, body, descriptors));
  Message answer = receive();
  EXPECT_EQ(answer.sequence, header.sequence);
  return answer;
}

bool HandoffPeer::at_end() {
  char byte;
  return ::recv(socket_.get(), &byte, 1, 0) == 0;
}

}  // namespace nbdkit
