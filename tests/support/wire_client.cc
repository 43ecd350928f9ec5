// SPDX-License-Identifier: BSD-3-Clause
#include "support/wire_client.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cstring>

namespace nbdkit {
namespace {

template <typename Wire>
std::string text_of(const Wire& wire) {
  return std::string(reinterpret_cast<const char*>(&wire), sizeof wire);
}

template <typename T>
std::string number(T n) {
  return text_of(Be<T>(n));
}

std::string counted(std::string_view text) {
  return number(static_cast<std::uint32_t>(text.size())) + std::string(text);
}

}  // namespace

WireClient::WireClient(UniqueFd socket) : socket_(std::move(socket)) {
  timeval patience{kPatienceSeconds, 0};
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

void WireClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t n = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return;  // What the server thinks of it is read afterwards.
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

std::string WireClient::receive(std::size_t length) {
  std::string bytes(length, '\0');
  for (std::size_t got = 0; got < length;) {
    ssize_t n = ::recv(socket_.get(), bytes.data() + got, length - got, 0);
    if (n <= 0) {
      ADD_FAILURE() << "the server sent " << got << " of " << length << " bytes, then "
                    << (n == 0 ? "closed" : std::strerror(errno));
      return bytes;
    }
    got += static_cast<std::size_t>(n);
  }
  return bytes;
}

bool WireClient::at_end() {
  char byte;
  ssize_t n = ::recv(socket_.get(), &byte, 1, 0);
  return n == 0 || (n < 0 && errno == ECONNRESET);
}

void WireClient::shut_down_writing() { ::shutdown(socket_.get(), SHUT_WR); }

template <typename Wire>
Wire WireClient::receive_wire() {
  std::string bytes = receive(sizeof(Wire));
  Wire wire;
  std::memcpy(&wire, bytes.data(), sizeof wire);
  return wire;
}

std::uint16_t WireClient::greet(std::uint32_t client_flags) {
  auto greeting = receive_wire<GreetingWire>();
  EXPECT_EQ(greeting.magic.get(), kGreetingMagic);
  EXPECT_EQ(greeting.option_magic.get(), kOptionMagic);
  send(number(client_flags));
  return greeting.flags.get();
}

void WireClient::send_option(Option option, std::string_view data) {
  OptionWire wire;
  wire.magic = kOptionMagic;
  wire.option = option;
  wire.length = static_cast<std::uint32_t>(data.size());
  send(text_of(wire) + std::string(data));
}

WireClient::OptionAnswer WireClient::option_answer() {
  auto wire = receive_wire<OptionReplyWire>();
  EXPECT_EQ(wire.magic.get(), kOptionReplyMagic);
  if (wire.magic.get() != kOptionReplyMagic) return {OptionReply::invalid, {}};
  OptionAnswer answer{wire.type.get(), receive(wire.length.get())};
  return answer;
}

std::vector<WireClient::OptionAnswer> WireClient::option(Option option, std::string_view data) {
  send_option(option, data);
  std::vector<OptionAnswer> answers;
  for (;;) {
    answers.push_back(option_answer());
    auto type = static_cast<std::uint32_t>(answers.back().type);
    if (answers.back().type == OptionReply::ack || (type & 0x80000000u) != 0) return answers;
  }
}

std::string WireClient::go_data(std::string_view name, std::vector<Info> infos) {
  std::string data = counted(name) + number(static_cast<std::uint16_t>(infos.size()));
  for (Info info : infos) data += text_of(Be<Info>(info));
  return data;
}

std::string WireClient::meta_data(std::string_view name, std::vector<std::string> queries) {
  std::string data = counted(name) + number(static_cast<std::uint32_t>(queries.size()));
  for (const std::string& query : queries) data += counted(query);
  return data;
}

WireClient::Export WireClient::go(std::string_view name, bool structured, bool status) {
  greet();
  if (structured) option(Option::structured_reply);
  if (status) option(Option::set_meta_context, meta_data(name, {"base:allocation"}));
  Export result;
  for (const OptionAnswer& answer : option(Option::go, go_data(name))) {
    InfoExportWire wire;
    if (answer.type != OptionReply::info || answer.data.size() != sizeof wire) continue;
    std::memcpy(&wire, answer.data.data(), sizeof wire);
    if (wire.type.get() == Info::export_) result = {wire.size.get(), wire.flags.get()};
  }
  return result;
}

std::string WireClient::packet(Command command, std::uint64_t cookie, std::uint64_t offset,
                               std::uint32_t length, std::uint16_t flags,
                               std::string_view payload) {
  RequestHeader header{command, flags, Cookie{cookie}, offset, length};
  return text_of(to_wire(header)) + std::string(payload);
}

void WireClient::request(Command command, std::uint64_t cookie, std::uint64_t offset,
                         std::uint32_t length, std::uint16_t flags, std::string_view payload) {
  send(packet(command, cookie, offset, length, flags, payload));
}

void WireClient::take_chunk(const ChunkWire& chunk, Answer& answer, std::uint64_t start) {
  std::string body = receive(chunk.length.get());
  ChunkType type = chunk.type.get();
  answer.chunks.push_back(type);
  std::size_t head = 0;
  auto take = [&](auto wire) {
    std::memcpy(&wire, body.data() + head, sizeof wire);
    head += sizeof wire;
    return wire.get();
  };
  if (type == ChunkType::offset_data) {
    EXPECT_EQ(take(Be<std::uint64_t>(0)) - start, answer.data.size());
    answer.data += body.substr(head);
  } else if (type == ChunkType::offset_hole) {
    EXPECT_EQ(take(Be<std::uint64_t>(0)) - start, answer.data.size());
    answer.data.append(take(Be<std::uint32_t>(0)), '\0');
  } else if (type == ChunkType::block_status) {
    EXPECT_EQ(take(Be<std::uint32_t>(0)), kBaseAllocationId);
    while (head < body.size()) {
      std::uint32_t length = take(Be<std::uint32_t>(0));
      answer.extents.push_back({length, take(Be<std::uint32_t>(0))});
    }
  } else if (type == ChunkType::error) {
    answer.error = take(Be<std::uint32_t>(0));
  }
}

WireClient::Answer WireClient::answer(std::uint32_t length) {
  Answer answer;
  auto magic = receive_wire<Be<std::uint32_t>>();
  if (magic.get() == kSimpleReplyMagic) {
    answer.error = receive_wire<Be<std::uint32_t>>().get();
    answer.cookie = receive_wire<Be<std::uint64_t>>().get();
    if (answer.error == 0) answer.data = receive(length);
    return answer;
  }
  answer.structured = true;
  std::uint64_t start = 0;
  for (bool first = true;; first = false) {
    if (!first) magic = receive_wire<Be<std::uint32_t>>();
    EXPECT_EQ(magic.get(), kChunkMagic);
    if (magic.get() != kChunkMagic) return answer;
    std::string rest = receive(sizeof(ChunkWire) - sizeof magic);
    ChunkWire chunk;
    std::memcpy(reinterpret_cast<char*>(&chunk) + sizeof magic, rest.data(), rest.size());
    answer.cookie = static_cast<std::uint64_t>(chunk.cookie.get());
    if (first && chunk.length.get() >= 8) {
      char peeked[8];
      ::recv(socket_.get(), peeked, sizeof peeked, MSG_PEEK | MSG_WAITALL);
      Be<std::uint64_t> offset;
      std::memcpy(&offset, peeked, sizeof offset);
      start = offset.get();
    }
    take_chunk(chunk, answer, start);
    if ((chunk.flags.get() & kChunkDone) != 0) return answer;
  }
}

WireClient::Answer WireClient::read(std::uint64_t offset, std::uint32_t length,
                                    std::uint16_t flags) {
  request(Command::read, next_cookie_, offset, length, flags);
  Answer reply = answer(length);
  EXPECT_EQ(reply.cookie, next_cookie_++);
  return reply;
}

WireClient::Answer WireClient::write(std::uint64_t offset, std::string_view data,
                                     std::uint16_t flags) {
  request(Command::write, next_cookie_, offset, static_cast<std::uint32_t>(data.size()), flags,
          data);
  Answer reply = answer();
  EXPECT_EQ(reply.cookie, next_cookie_++);
  return reply;
}

WireClient::Answer WireClient::call(Command command, std::uint64_t offset, std::uint32_t length,
                                    std::uint16_t flags) {
  request(command, next_cookie_, offset, length, flags);
  Answer reply = answer();
  EXPECT_EQ(reply.cookie, next_cookie_++);
  return reply;
}

}  // namespace nbdkit
