// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/message.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "lib/handoff/handoff_wire.h"

namespace nbdkit {
namespace {

// Room for more descriptors than are allowed: all that arrive must be seen, or they would leak.
constexpr std::size_t kDescriptorsRoom = 64;
constexpr int kScmPidFd = 4;  // SCM_PIDFD of Linux 6.5

HandoffProblem bad_message(std::string sentence) {
  return {HandoffFault::bad_message, std::move(sentence)};
}

void take_descriptors(const msghdr& message, std::vector<UniqueFd>& descriptors) {
  for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr;
       control = CMSG_NXTHDR(const_cast<msghdr*>(&message), control)) {
    if (control->cmsg_level != SOL_SOCKET) continue;
    // Who shares our end of the socket can make the kernel add a descriptor of the sender.
    if (control->cmsg_type != SCM_RIGHTS && control->cmsg_type != kScmPidFd) continue;
    std::size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(control) + i * sizeof fd, sizeof fd);
      if (fd >= 0) descriptors.emplace_back(fd);
    }
  }
}

std::optional<HandoffProblem> check_header(const nbdkit_handoff_header& header,
                                           const HandoffPacket& packet) {
  if (header.version != NBDKIT_HANDOFF_VERSION) {
    return HandoffProblem{HandoffFault::unsupported_version,
                          fmt::format("version {} of the protocol is not known, only {}",
                                      header.version, NBDKIT_HANDOFF_VERSION)};
  }
  if (header.kind < NBDKIT_HANDOFF_REQUEST || header.kind > NBDKIT_HANDOFF_EVENT) {
    return bad_message(fmt::format("there is no message of kind {}", header.kind));
  }
  if ((header.flags & ~NBDKIT_HANDOFF_FLAGS_KNOWN) != 0) {
    return bad_message(fmt::format("unknown flags: {:#x}", header.flags));
  }
  if (packet.truncated || header.length != packet.bytes.size() - NBDKIT_HANDOFF_HEADER_SIZE) {
    return bad_message(fmt::format("the header announces a body of {} bytes, {} came (at most {})",
                                   header.length, packet.bytes.size() - NBDKIT_HANDOFF_HEADER_SIZE,
                                   NBDKIT_HANDOFF_BODY_MAX));
  }
  return std::nullopt;
}

std::optional<HandoffProblem> check_descriptors(const nbdkit_handoff_header& header,
                                                const HandoffPacket& packet) {
  if (packet.control_truncated) {
    return bad_message(
        "descriptors were lost on the way: too many came, or this process has too many open files");
  }
  bool announced = (header.flags & NBDKIT_HANDOFF_FLAG_DESCRIPTOR) != 0;
  std::size_t count = packet.descriptors.size();
  if (announced && count == 0) {
    return HandoffProblem{HandoffFault::no_descriptor,
                          "the header announces a descriptor, and none came"};
  }
  if (count > (announced ? 1 : 0)) {
    return HandoffProblem{
        HandoffFault::unexpected_descriptor,
        fmt::format("{} descriptors came, {} was announced", count, announced ? "one" : "none")};
  }
  return std::nullopt;
}

}  // namespace

Result<void> send_handoff(int socket, HandoffKind kind, std::uint64_t sequence, const Json& body,
                          int descriptor) {
  std::string text = body.dump();
  if (text.size() > NBDKIT_HANDOFF_BODY_MAX) return std::errc::message_size;
  nbdkit_handoff_header header{NBDKIT_HANDOFF_MAGIC,
                               NBDKIT_HANDOFF_VERSION,
                               static_cast<std::uint16_t>(kind),
                               descriptor >= 0 ? NBDKIT_HANDOFF_FLAG_DESCRIPTOR : 0,
                               static_cast<std::uint32_t>(text.size()),
                               sequence};
  std::array<unsigned char, NBDKIT_HANDOFF_HEADER_SIZE> head;
  nbdkit_handoff_encode(head.data(), &header);
  std::array<iovec, 2> pieces{{{head.data(), head.size()}, {text.data(), text.size()}}};
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = pieces.size();
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  if (descriptor >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &descriptor, sizeof descriptor);
  }
  for (;;) {
    if (::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return {};
    if (errno != EINTR) return os_error("sending a handoff message");
  }
}

Result<HandoffPacket> receive_handoff(int socket) {
  HandoffPacket packet;
  packet.bytes.resize(NBDKIT_HANDOFF_MESSAGE_MAX);
  iovec piece{packet.bytes.data(), packet.bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kDescriptorsRoom * sizeof(int))> control;
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t size;
  do {
    size = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  if (size < 0) return os_error("receiving a handoff message");
  take_descriptors(message, packet.descriptors);
  packet.control_truncated = (message.msg_flags & MSG_CTRUNC) != 0;
  // No message of this protocol is empty, and the end of the stream looks like one.
  if (size == 0 && packet.descriptors.empty() && !packet.control_truncated) {
    return Error(std::errc::connection_reset, "the other end has closed the socket");
  }
  packet.bytes.resize(static_cast<std::size_t>(size));
  packet.truncated = (message.msg_flags & MSG_TRUNC) != 0;
  return packet;
}

std::string_view fault_name(HandoffFault fault) {
  switch (fault) {
    case HandoffFault::bad_message:
      return "bad-message";
    case HandoffFault::unsupported_version:
      return "unsupported-version";
    case HandoffFault::unknown_verb:
      return "unknown-verb";
    case HandoffFault::unknown_key:
      return "unknown-key";
    case HandoffFault::bad_value:
      return "bad-value";
    case HandoffFault::no_descriptor:
      return "no-descriptor";
    case HandoffFault::unexpected_descriptor:
      return "unexpected-descriptor";
    case HandoffFault::bad_descriptor:
      return "bad-descriptor";
    case HandoffFault::forbidden:
      return "forbidden";
    case HandoffFault::no_such_export:
      return "no-such-export";
    case HandoffFault::no_such_connection:
      return "no-such-connection";
    case HandoffFault::not_movable:
      return "not-movable";
    case HandoffFault::mismatch:
      return "mismatch";
    case HandoffFault::limit:
      return "limit";
    case HandoffFault::timeout:
      return "timeout";
    case HandoffFault::failed:
      return "failed";
  }
  return "failed";
}

std::variant<HandoffMessage, HandoffProblem> parse_handoff(HandoffPacket& packet,
                                                           std::uint64_t& sequence) {
  if (packet.bytes.size() < NBDKIT_HANDOFF_HEADER_SIZE) {
    return bad_message(fmt::format("{} bytes are no header", packet.bytes.size()));
  }
  nbdkit_handoff_header header;
  nbdkit_handoff_decode(reinterpret_cast<const unsigned char*>(packet.bytes.data()), &header);
  if (header.magic != NBDKIT_HANDOFF_MAGIC) return bad_message("the magic number is wrong");
  sequence = header.sequence;
  if (auto problem = check_header(header, packet)) return std::move(*problem);
  if (auto problem = check_descriptors(header, packet)) return std::move(*problem);

  std::string_view text(reinterpret_cast<const char*>(packet.bytes.data()), packet.bytes.size());
  Result<Json> body = Json::parse(text.substr(NBDKIT_HANDOFF_HEADER_SIZE));
  if (!body.ok()) return bad_message(fmt::format("the body is {}", body.error().message()));
  if (body.value().as_object() == nullptr) return bad_message("the body is no JSON object");
  HandoffMessage message;
  message.kind = static_cast<HandoffKind>(header.kind);
  message.sequence = sequence;
  message.body = std::move(body).value();
  if (!packet.descriptors.empty()) message.descriptor = std::move(packet.descriptors.front());
  packet.descriptors.clear();
  return message;
}

}  // namespace nbdkit
