// SPDX-License-Identifier: BSD-3-Clause
// What a server makes of a packet of a stranger. The first byte of the input says what is not in a
// packet: 1 a proper header is put before it, 2 a descriptor comes with it, 4 it was longer than a
// message may be, 8 descriptors were lost. The rest is the packet.
#include <fcntl.h>

#include <array>
#include <cstring>
#include <string>
#include <string_view>

#include "base/check.h"
#include "handoff/connection_verbs.h"
#include "handoff/figures_verb.h"
#include "handoff/message.h"
#include "handoff/verbs.h"
#include "lib/handoff/handoff_wire.h"

namespace nbdkit {
namespace {

enum Flags : unsigned { kMakeHeader = 1, kDescriptor = 2, kTruncated = 4, kControlTruncated = 8 };

HandoffPacket make_packet(unsigned flags, std::string_view rest) {
  HandoffPacket packet;
  packet.truncated = (flags & kTruncated) != 0;
  packet.control_truncated = (flags & kControlTruncated) != 0;
  if ((flags & kMakeHeader) != 0) {
    nbdkit_handoff_header header{NBDKIT_HANDOFF_MAGIC,
                                 NBDKIT_HANDOFF_VERSION,
                                 NBDKIT_HANDOFF_REQUEST,
                                 (flags & kDescriptor) != 0 ? NBDKIT_HANDOFF_FLAG_DESCRIPTOR : 0,
                                 static_cast<std::uint32_t>(rest.size()),
                                 1};
    packet.bytes.resize(NBDKIT_HANDOFF_HEADER_SIZE);
    nbdkit_handoff_encode(reinterpret_cast<unsigned char*>(packet.bytes.data()), &header);
  }
  const auto* bytes = reinterpret_cast<const std::byte*>(rest.data());
  packet.bytes.insert(packet.bytes.end(), bytes, bytes + rest.size());
  if ((flags & kDescriptor) != 0) {
    packet.descriptors.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  }
  return packet;
}

// What has been understood says the same when it is written and read again.
template <typename Value>
void check_again(const Result<Value>& value, Result<Value> (*parse)(const Json&)) {
  if (!value.ok()) return;
  Json once = to_json(value.value());
  Result<Value> again = parse(once);
  NBDKIT_CHECK(again.ok());
  NBDKIT_CHECK(to_json(again.value()) == once);
}

void check_body(const Json& body) {
  check_again(parse_query(body), parse_query);
  check_again(parse_serve(body), parse_serve);
  check_again(parse_export(body), parse_export);
  check_again(parse_figures(body), parse_figures);
  check_again(parse_figures_request(body), parse_figures_request);
  (void)parse_list(body);
  (void)parse_close(body);
  (void)parse_take_over(body);
  (void)parse_subscribe(body);
  for (auto mode : {HandoffServe::Mode::transmission, HandoffServe::Mode::handshake}) {
    (void)parse_served(body, mode);
  }
  std::string text = body.dump();
  Result<Json> again = Json::parse(text);
  NBDKIT_CHECK(again.ok() && again.value().dump() == text);
}

void check(std::span<const std::uint8_t> input) {
  if (input.empty()) return;
  std::string_view rest(reinterpret_cast<const char*>(input.data()) + 1, input.size() - 1);
  if (rest.size() > NBDKIT_HANDOFF_BODY_MAX) return;
  HandoffPacket packet = make_packet(input[0], rest);
  std::size_t descriptors = packet.descriptors.size();
  std::uint64_t sequence = 0;
  auto parsed = parse_handoff(packet, sequence);
  if (auto* problem = std::get_if<HandoffProblem>(&parsed)) {
    NBDKIT_CHECK(!problem->sentence.empty());
    NBDKIT_CHECK(packet.descriptors.size() == descriptors);
    return;
  }
  const HandoffMessage& message = std::get<HandoffMessage>(parsed);
  NBDKIT_CHECK(message.sequence == sequence);
  NBDKIT_CHECK(static_cast<bool>(message.descriptor) == (descriptors == 1));
  check_body(message.body);
}

}  // namespace
}  // namespace nbdkit

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nbdkit::check({data, size});
  return 0;
}
