// SPDX-License-Identifier: BSD-3-Clause
#include "support/wire_client.h"

#include <gtest/gtest.h>
#include <poll.h>
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
T number_at(std::string_view bytes, std::size_t at) {
  Be<T> wire(T{});
  if (at + sizeof wire > bytes.size()) {
    ADD_FAILURE() << "a body of only " << bytes.size() << " bytes";
    return {};
  }
  std::memcpy(&wire, bytes.data() + at, sizeof wire);
  return wire.get();
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
    ssize_t n =
        tls_ ? tls_->send(bytes) : ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return;  // What the server thinks of it is read afterwards.
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

long WireClient::receive_some(char* into, std::size_t length) {
  if (ahead_.empty()) {
    return tls_ ? tls_->receive(into, length) : ::recv(socket_.get(), into, length, 0);
  }
  length = ahead_.copy(into, length);
  ahead_.erase(0, length);
  return static_cast<long>(length);
}

std::string WireClient::receive(std::size_t length) {
  std::string bytes(length, '\0');
  for (std::size_t got = 0; got < length;) {
    ssize_t n = receive_some(bytes.data() + got, length - got);
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
  ssize_t n = receive_some(&byte, 1);
  if (tls_) return n <= 0;
  return n == 0 || (n < 0 && errno == ECONNRESET);
}

bool WireClient::closes_within(Milliseconds time) {
  pollfd one{socket_.get(), POLLIN, 0};
  return ::poll(&one, 1, static_cast<int>(time.count())) > 0 && at_end();
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

OptionReply WireClient::use_extended_headers() {
  OptionReply reply = option(Option::extended_headers).back().type;
  extended_ = reply == OptionReply::ack;
  return reply;
}

WireClient::Export WireClient::go(std::string_view name, bool structured, bool status) {
  greet();
  return choose(name, structured, status);
}

std::string WireClient::start_tls(const WireTls::Identity& identity) {
  OptionReply reply = option(Option::starttls).back().type;
  if (reply != OptionReply::ack) return "refused";
  tls_ = std::make_unique<WireTls>(socket_.get(), identity);
  return tls_->handshake();
}

WireClient::Export WireClient::choose(std::string_view name, bool structured, bool status) {
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
                         std::uint64_t length, std::uint16_t flags, std::string_view payload) {
  if (extended_) {
    RequestHeader header{command, flags, Cookie{cookie}, offset, length};
    return send(text_of(to_extended_wire(header)) + std::string(payload));
  }
  send(packet(command, cookie, offset, static_cast<std::uint32_t>(length), flags, payload));
}

std::vector<WireClient::StatusExtent>& WireClient::Answer::status(std::uint32_t context) {
  EXPECT_TRUE(context == kBaseAllocation.id || context == kAllocationDepth.id) << context;
  return context == kBaseAllocation.id ? extents : depths;
}

void WireClient::take_chunk(const Chunk& chunk, Answer& answer, std::uint64_t start) {
  std::string body = receive(chunk.length);
  ChunkType type = chunk.type;
  answer.chunks.push_back(type);
  if (type == ChunkType::offset_data || type == ChunkType::offset_hole) {
    EXPECT_EQ(number_at<std::uint64_t>(body, 0) - start, answer.data.size());
    if (type == ChunkType::offset_data) {
      answer.data += body.substr(8);
    } else {
      answer.data.append(number_at<std::uint32_t>(body, 8), '\0');
    }
  } else if (type == ChunkType::block_status) {
    std::vector<StatusExtent>& extents = answer.status(number_at<std::uint32_t>(body, 0));
    for (std::size_t at = 4; at < body.size(); at += 8) {
      extents.push_back(
          {number_at<std::uint32_t>(body, at), number_at<std::uint32_t>(body, at + 4)});
    }
  } else if (type == ChunkType::block_status_extended) {
    std::vector<StatusExtent>& extents = answer.status(number_at<std::uint32_t>(body, 0));
    EXPECT_EQ(number_at<std::uint32_t>(body, 4), (body.size() - 8) / 16);
    for (std::size_t at = 8; at < body.size(); at += 16) {
      extents.push_back(
          {number_at<std::uint64_t>(body, at), number_at<std::uint64_t>(body, at + 8)});
    }
  } else if (type != ChunkType::none) {
    take_error(body, type == ChunkType::error_offset, answer);
  }
}

void WireClient::take_error(std::string_view body, bool with_offset, Answer& answer) {
  answer.error = number_at<std::uint32_t>(body, 0);
  std::size_t length = number_at<std::uint16_t>(body, 4);
  answer.error_text = body.substr(6, length);
  if (with_offset) answer.error_offset = number_at<std::uint64_t>(body, 6 + length);
  EXPECT_EQ(body.size(), 6 + length + (with_offset ? 8 : 0));
}

// The magic number has been received already.
template <typename Wire>
WireClient::Chunk WireClient::receive_chunk(std::uint32_t magic) {
  Wire wire;
  EXPECT_EQ(magic, wire.magic.get());
  if (magic != wire.magic.get()) return {kChunkDone, ChunkType::none, Cookie{}, 0};
  std::string rest = receive(sizeof wire - sizeof wire.magic);
  std::memcpy(reinterpret_cast<char*>(&wire) + sizeof wire.magic, rest.data(), rest.size());
  return {wire.flags.get(), wire.type.get(), wire.cookie.get(), wire.length.get()};
}

WireClient::Answer WireClient::answer(std::uint32_t length) {
  Answer answer;
  auto magic = receive_wire<Be<std::uint32_t>>();
  if (magic.get() == kSimpleReplyMagic && !extended_) {
    answer.error = receive_wire<Be<std::uint32_t>>().get();
    answer.cookie = receive_wire<Be<std::uint64_t>>().get();
    if (answer.error == 0) answer.data = receive(length);
    return answer;
  }
  answer.structured = true;
  std::uint64_t start = 0;
  for (bool first = true;; first = false) {
    if (!first) magic = receive_wire<Be<std::uint32_t>>();
    Chunk chunk = extended_ ? receive_chunk<ExtendedChunkWire>(magic.get())
                            : receive_chunk<ChunkWire>(magic.get());
    answer.cookie = static_cast<std::uint64_t>(chunk.cookie);
    if (first && chunk.length >= 8) {
      Be<std::uint64_t> offset;
      ahead_ = receive(sizeof offset);
      std::memcpy(&offset, ahead_.data(), sizeof offset);
      start = offset.get();
    }
    take_chunk(chunk, answer, start);
    if ((chunk.flags & kChunkDone) != 0) return answer;
  }
}

WireClient::Answer WireClient::read(std::uint64_t offset, std::uint64_t length,
                                    std::uint16_t flags) {
  request(Command::read, next_cookie_, offset, length, flags);
  Answer reply = answer(static_cast<std::uint32_t>(length));
  EXPECT_EQ(reply.cookie, next_cookie_++);
  return reply;
}

WireClient::Answer WireClient::write(std::uint64_t offset, std::string_view data,
                                     std::uint16_t flags) {
  if (extended_) flags |= command_flag::kPayloadLength;
  request(Command::write, next_cookie_, offset, data.size(), flags, data);
  Answer reply = answer();
  EXPECT_EQ(reply.cookie, next_cookie_++);
  return reply;
}

WireClient::Answer WireClient::call(Command command, std::uint64_t offset, std::uint64_t length,
                                    std::uint16_t flags) {
  request(command, next_cookie_, offset, length, flags);
  Answer reply = answer();
  EXPECT_EQ(reply.cookie, next_cookie_++);
  return reply;
}

}  // namespace nbdkit
