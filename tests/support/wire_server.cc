// SPDX-License-Identifier: BSD-3-Clause
#include "support/wire_server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cstring>

namespace nbdkit {

WireServer::WireServer(UniqueFd socket) : socket_(std::move(socket)) {
  timeval patience{kPatienceSeconds, 0};
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

void WireServer::send(std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t n = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return;  // The client may have had enough.
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

std::string WireServer::receive(std::size_t length) {
  std::string bytes(length, '\0');
  for (std::size_t got = 0; got < length;) {
    ssize_t n = ::recv(socket_.get(), bytes.data() + got, length - got, 0);
    if (n <= 0) {
      gone_ = true;
      if (!may_leave_) ADD_FAILURE() << "the client sent " << got << " of " << length << " bytes";
      return bytes;
    }
    got += static_cast<std::size_t>(n);
  }
  return bytes;
}

bool WireServer::at_end() {
  char byte;
  return ::recv(socket_.get(), &byte, 1, 0) <= 0;
}

// Whoever else holds the socket must not keep it open.
void WireServer::hang_up() { ::shutdown(socket_.get(), SHUT_RDWR); }

namespace {
template <typename Wire>
Wire wire_from(const std::string& bytes) {
  Wire wire;
  std::memcpy(&wire, bytes.data(), sizeof wire);
  return wire;
}
}  // namespace

std::uint32_t WireServer::greet(std::uint16_t flags) {
  GreetingWire greeting;
  greeting.flags = flags;
  send(wire_bytes(greeting));
  return wire_from<Be<std::uint32_t>>(receive(4)).get();
}

WireServer::OptionAsked WireServer::option() {
  auto wire = wire_from<OptionWire>(receive(sizeof(OptionWire)));
  if (gone_) return {Option::abort, {}};
  EXPECT_EQ(wire.magic.get(), kOptionMagic);
  return {wire.option.get(), receive(wire.length.get())};
}

void WireServer::answer(Option option, OptionReply type, std::string_view data) {
  OptionReplyWire wire;
  wire.option = option;
  wire.type = type;
  wire.length = static_cast<std::uint32_t>(data.size());
  send(wire_bytes(wire) + std::string(data));
}

std::string WireServer::export_info(const Export& about) {
  InfoExportWire wire;
  wire.size = about.size;
  wire.flags = about.flags;
  return wire_bytes(wire);
}

void WireServer::shake_hands(const Export& about) {
  greet();
  for (;;) {
    OptionAsked asked = option();
    switch (asked.option) {
      case Option::extended_headers:
        extended_ = about.extended;
        answer(asked.option, about.extended ? OptionReply::ack : OptionReply::unsupported);
        break;
      case Option::structured_reply:
        answer(asked.option, about.structured ? OptionReply::ack : OptionReply::unsupported);
        break;
      case Option::set_meta_context:
        if (about.base_allocation) {
          answer(asked.option, OptionReply::meta_context,
                 wire_number(*about.base_allocation) + "base:allocation");
        }
        answer(asked.option, OptionReply::ack);
        break;
      case Option::go:
        answer(asked.option, OptionReply::info, export_info(about));
        if (!about.block_sizes.empty()) {
          answer(asked.option, OptionReply::info, about.block_sizes);
        }
        answer(asked.option, OptionReply::ack);
        return;
      case Option::abort:
        return;
      default:
        answer(asked.option, OptionReply::unsupported);
    }
  }
}

RequestHeader WireServer::request() {
  std::string bytes = receive(extended_ ? sizeof(ExtendedRequestWire) : sizeof(RequestWire));
  auto packet = std::as_bytes(std::span(bytes));
  auto header = extended_ ? parse_extended_request(packet.first<sizeof(ExtendedRequestWire)>())
                          : parse_request(packet.first<sizeof(RequestWire)>());
  if (gone_) return {Command::disconnect, 0, Cookie{}, 0, 0};
  if (!header) ADD_FAILURE() << "the client sent something that is no request";
  return header.value_or(RequestHeader{});
}

void WireServer::simple(Cookie cookie, std::uint32_t error, std::string_view data) {
  SimpleReplyWire wire;
  wire.error = error;
  wire.cookie = cookie;
  send(wire_bytes(wire) + std::string(data));
}

void WireServer::chunk(Cookie cookie, ChunkType type, std::string_view body, bool done) {
  std::uint16_t flags = done ? kChunkDone : std::uint16_t{0};
  if (extended_) {
    send(wire_bytes(ExtendedChunkWire{kExtendedChunkMagic, flags, type, cookie, std::uint64_t{0},
                                      std::uint64_t{body.size()}}) +
         std::string(body));
  } else {
    send(wire_bytes(
             ChunkWire{kChunkMagic, flags, type, cookie, static_cast<std::uint32_t>(body.size())}) +
         std::string(body));
  }
}

std::string WireServer::data_body(std::uint64_t offset, std::string_view data) {
  return wire_number(offset) + std::string(data);
}

std::string WireServer::hole_body(std::uint64_t offset, std::uint32_t length) {
  return wire_number(offset) + wire_number(length);
}

}  // namespace nbdkit
