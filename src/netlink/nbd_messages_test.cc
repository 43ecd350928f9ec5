// SPDX-License-Identifier: BSD-3-Clause
#include "netlink/nbd_messages.h"

#include <gtest/gtest.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/nbd.h>
#include <linux/netlink.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <random>

#include "support/scripted_netlink.h"

namespace nbdkit {
namespace {

using kernel_says::kFamilyId;
using kernel_says::kGroup;
using kernel_says::operator+;

constexpr NbdFamily kFamily{kFamilyId, kGroup};

// The attributes of one level by type, taken apart without the code under test.
std::multimap<int, NetlinkBytes> attributes_of(const NetlinkBytes& bytes, std::size_t from = 0) {
  std::multimap<int, NetlinkBytes> attributes;
  while (from + sizeof(nlattr) <= bytes.size()) {
    nlattr header;
    std::memcpy(&header, bytes.data() + from, sizeof header);
    EXPECT_GE(header.nla_len, sizeof header);
    EXPECT_LE(from + header.nla_len, bytes.size());
    auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(from);
    attributes.emplace(header.nla_type & NLA_TYPE_MASK,
                       NetlinkBytes(begin + sizeof header, begin + header.nla_len));
    from += NLA_ALIGN(header.nla_len);
  }
  return attributes;
}

template <typename T>
T number(const NetlinkBytes& bytes) {
  T value{};
  EXPECT_EQ(bytes.size(), sizeof value);
  std::memcpy(&value, bytes.data(), std::min(bytes.size(), sizeof value));
  return value;
}

struct Sent {
  nlmsghdr header;
  genlmsghdr command;
  std::multimap<int, NetlinkBytes> attributes;

  explicit Sent(const NetlinkBytes& bytes) {
    std::memcpy(&header, bytes.data(), sizeof header);
    std::memcpy(&command, bytes.data() + NLMSG_HDRLEN, sizeof command);
    EXPECT_EQ(header.nlmsg_len, bytes.size());
    EXPECT_EQ(header.nlmsg_flags, NLM_F_REQUEST | NLM_F_ACK);
    attributes = attributes_of(bytes, NLMSG_HDRLEN + GENL_HDRLEN);
  }
  template <typename T>
  T get(int type) const {
    EXPECT_EQ(attributes.count(type), 1u) << type;
    return attributes.count(type) == 1 ? number<T>(attributes.find(type)->second) : T{};
  }
  bool has(int type) const { return attributes.count(type) > 0; }
  std::vector<std::uint32_t> sockets() const {
    std::vector<std::uint32_t> found;
    for (auto& [type, item] : attributes_of(attributes.find(NBD_ATTR_SOCKETS)->second)) {
      EXPECT_EQ(type, NBD_SOCK_ITEM);
      found.push_back(number<std::uint32_t>(attributes_of(item).find(NBD_SOCK_FD)->second));
    }
    return found;
  }
};

Result<NetlinkMessage> only(const NetlinkBytes& datagram) {
  auto messages = parse_datagram(datagram);
  if (!messages.ok()) return std::move(messages).error();
  EXPECT_EQ(messages.value().size(), 1u);
  return std::move(messages.value().front());
}

TEST(NbdMessages, ConnectSaysEverythingExplicitly) {
  ConnectRequest request;
  request.size = 1 << 20;
  request.sockets = {5};
  Sent sent(build_connect(kFamily, 77, request));
  EXPECT_EQ(sent.header.nlmsg_type, kFamilyId);
  EXPECT_EQ(sent.header.nlmsg_seq, 77u);
  EXPECT_EQ(sent.command.cmd, NBD_CMD_CONNECT);
  EXPECT_EQ(sent.command.version, NBD_GENL_VERSION);
  EXPECT_EQ(sent.get<std::uint64_t>(NBD_ATTR_SIZE_BYTES), 1u << 20);
  EXPECT_EQ(sent.get<std::uint64_t>(NBD_ATTR_BLOCK_SIZE_BYTES), 512u);
  EXPECT_EQ(sent.get<std::uint64_t>(NBD_ATTR_TIMEOUT), 0u);
  EXPECT_EQ(sent.get<std::uint64_t>(NBD_ATTR_DEAD_CONN_TIMEOUT), 0u);
  EXPECT_EQ(sent.get<std::uint64_t>(NBD_ATTR_SERVER_FLAGS), 0u);
  EXPECT_EQ(sent.get<std::uint64_t>(NBD_ATTR_CLIENT_FLAGS), 0u);
  EXPECT_FALSE(sent.has(NBD_ATTR_INDEX)) << "a free device is asked for by saying nothing";
  EXPECT_FALSE(sent.has(NBD_ATTR_BACKEND_IDENTIFIER));
  EXPECT_EQ(sent.sockets(), std::vector<std::uint32_t>{5});
}

TEST(NbdMessages, ConnectSaysWhatItIsGiven) {
  ConnectRequest request;
  request.index = 12;
  request.size = 4096;
  request.block_size = 4096;
  request.server_flags = 0x125;
  request.client_flags = {true, true};
  request.request_timeout = Seconds(3);
  request.dead_timeout = Seconds(60);
  request.backend = std::string(255, 'b');
  for (int i = 0; i < 64; ++i) request.sockets.push_back(100 + i);
  Sent sent(build_connect(kFamily, 1, request));
  EXPECT_EQ(sent.get<std::uint32_t>(NBD_ATTR_INDEX), 12u);
  EXPECT_EQ(sent.get<std::uint64_t>(NBD_ATTR_SERVER_FLAGS), 0x125u);
  EXPECT_EQ(sent.get<std::uint64_t>(NBD_ATTR_CLIENT_FLAGS),
            std::uint64_t{NBD_CFLAG_DESTROY_ON_DISCONNECT | NBD_CFLAG_DISCONNECT_ON_CLOSE});
  EXPECT_EQ(sent.get<std::uint64_t>(NBD_ATTR_TIMEOUT), 3u);
  EXPECT_EQ(sent.get<std::uint64_t>(NBD_ATTR_DEAD_CONN_TIMEOUT), 60u);
  EXPECT_EQ(sent.attributes.find(NBD_ATTR_BACKEND_IDENTIFIER)->second.size(), 256u);
  EXPECT_EQ(sent.sockets().size(), 64u);
  EXPECT_EQ(sent.sockets().back(), 163u);
}

TEST(NbdMessages, ReconfigureSaysOnlyWhatChanges) {
  ReconfigureRequest request;
  request.index = 3;
  request.backend = "id";
  request.sockets = {9};
  Sent sockets(build_reconfigure(kFamily, 1, request));
  EXPECT_EQ(sockets.command.cmd, NBD_CMD_RECONFIGURE);
  EXPECT_EQ(sockets.attributes.size(), 3u);
  EXPECT_EQ(sockets.get<std::uint32_t>(NBD_ATTR_INDEX), 3u);

  request.sockets.clear();
  request.size = 8192;
  request.client_flags = ClientFlags{false, true};
  Sent size(build_reconfigure(kFamily, 1, request));
  EXPECT_EQ(size.attributes.size(), 4u);
  EXPECT_EQ(size.get<std::uint64_t>(NBD_ATTR_CLIENT_FLAGS),
            std::uint64_t{NBD_CFLAG_DISCONNECT_ON_CLOSE});
}

TEST(NbdMessages, SizeAndSocketsNeverGoTogether) {
  ReconfigureRequest request;
  request.size = 8192;
  request.sockets = {9};
  EXPECT_DEATH(static_cast<void>(build_reconfigure(kFamily, 1, request)), "does not hold");
}

TEST(NbdMessages, TheOtherRequests) {
  Sent family(build_family_request(5));
  EXPECT_EQ(family.header.nlmsg_type, GENL_ID_CTRL);
  EXPECT_EQ(family.command.cmd, CTRL_CMD_GETFAMILY);
  EXPECT_EQ(family.attributes.find(CTRL_ATTR_FAMILY_NAME)->second.size(), 4u);
  Sent disconnect(build_disconnect(kFamily, 6, 2));
  EXPECT_EQ(disconnect.command.cmd, NBD_CMD_DISCONNECT);
  EXPECT_EQ(disconnect.get<std::uint32_t>(NBD_ATTR_INDEX), 2u);
  Sent one(build_status(kFamily, 7, 4));
  EXPECT_EQ(one.command.cmd, NBD_CMD_STATUS);
  EXPECT_EQ(one.get<std::uint32_t>(NBD_ATTR_INDEX), 4u);
  Sent all(build_status(kFamily, 8, std::nullopt));
  EXPECT_TRUE(all.attributes.empty());
}

TEST(NbdMessages, AFamilyIsRead) {
  NetlinkBytes datagram = kernel_says::family(3);
  auto message = only(datagram);
  ASSERT_TRUE(message.ok());
  EXPECT_EQ(message.value().sequence, 3u);
  auto family = parse_family(message.value());
  ASSERT_TRUE(family.ok()) << family.error().message();
  EXPECT_EQ(family.value().id, kFamilyId);
  EXPECT_EQ(family.value().group, kGroup);
}

TEST(NbdMessages, AFamilyWithoutItsGroupIsRefused) {
  NetlinkBytes other = kernel_says::text(CTRL_ATTR_MCAST_GRP_NAME, "another_group") +
                       kernel_says::u32(CTRL_ATTR_MCAST_GRP_ID, 4);
  genlmsghdr header{};
  header.cmd = CTRL_CMD_NEWFAMILY;
  NetlinkBytes bytes(sizeof header);
  std::memcpy(bytes.data(), &header, sizeof header);
  bytes = bytes + kernel_says::u16(CTRL_ATTR_FAMILY_ID, 20) +
          kernel_says::nest(CTRL_ATTR_MCAST_GROUPS, kernel_says::nest(1, other));
  NetlinkBytes datagram = kernel_says::message(GENL_ID_CTRL, 0, 1, bytes);
  EXPECT_FALSE(parse_family(only(datagram).value()).ok());
}

TEST(NbdMessages, AStatusIsRead) {
  NetlinkBytes datagram = kernel_says::status(1, {{0, true}, {9, false}});
  auto devices = parse_status(only(datagram).value());
  ASSERT_TRUE(devices.ok());
  ASSERT_EQ(devices.value().size(), 2u);
  EXPECT_TRUE(devices.value()[0].connected);
  EXPECT_EQ(devices.value()[1].index, 9u);
  EXPECT_FALSE(devices.value()[1].connected);
  datagram = kernel_says::status(1, {});
  EXPECT_TRUE(parse_status(only(datagram).value()).value().empty());
}

TEST(NbdMessages, AnAttributeOfTheWrongSizeIsRefused) {
  NetlinkBytes datagram =
      kernel_says::command(NBD_CMD_CONNECT, 1, kernel_says::u8(NBD_ATTR_INDEX, 1));
  EXPECT_FALSE(parse_index(only(datagram).value()).ok());
  datagram = kernel_says::command(NBD_CMD_CONNECT, 1, {});
  EXPECT_FALSE(parse_index(only(datagram).value()).ok());
  NetlinkBytes half = kernel_says::nest(NBD_DEVICE_ITEM, kernel_says::u32(NBD_DEVICE_INDEX, 1));
  datagram = kernel_says::command(NBD_CMD_STATUS, 1, kernel_says::nest(NBD_ATTR_DEVICE_LIST, half));
  EXPECT_FALSE(parse_status(only(datagram).value()).ok());
}

TEST(NbdMessages, AnAcknowledgementHasItsErrnoAndWords) {
  auto plain = only(kernel_says::ack(4, 0));
  ASSERT_TRUE(plain.ok());
  EXPECT_TRUE(plain.value().is_ack);
  EXPECT_EQ(plain.value().error, 0);
  auto words = only(kernel_says::ack(4, EINVAL, "no such thing"));
  EXPECT_EQ(words.value().error, EINVAL);
  EXPECT_EQ(words.value().words, "no such thing");
  auto evil = only(kernel_says::ack(4, EINVAL, "two\nlines\x1b[0m"));
  EXPECT_EQ(evil.value().words, "two?lines?[0m");
}

// Without NETLINK_CAP_ACK the kernel puts a copy of the request before its words.
TEST(NbdMessages, WordsBehindACopyOfTheRequestAreFound) {
  NetlinkBytes request = build_disconnect(kFamily, 4, 2);
  nlmsgerr error{};
  error.error = -EINVAL;
  NetlinkBytes payload(sizeof error);
  std::memcpy(&error.msg, request.data(), sizeof error.msg);
  std::memcpy(payload.data(), &error, sizeof error);
  payload.insert(payload.end(), request.begin() + sizeof(nlmsghdr), request.end());
  payload = payload + kernel_says::text(NLMSGERR_ATTR_MSG, "far behind");
  auto ack = only(kernel_says::message(NLMSG_ERROR, NLM_F_ACK_TLVS, 4, payload));
  ASSERT_TRUE(ack.ok());
  EXPECT_EQ(ack.value().words, "far behind");
}

TEST(NbdMessages, AMissingAttributeIsNamed) {
  nlmsgerr error{};
  error.error = -EINVAL;
  NetlinkBytes payload(sizeof error);
  std::memcpy(payload.data(), &error, sizeof error);
  payload = payload + kernel_says::u32(NLMSGERR_ATTR_MISS_TYPE, 2);
  auto ack = only(kernel_says::message(NLMSG_ERROR, NLM_F_ACK_TLVS | NLM_F_CAPPED, 4, payload));
  EXPECT_EQ(ack.value().words, "attribute 2 is missing");
}

TEST(NbdMessages, SeveralMessagesInOneDatagram) {
  NetlinkBytes datagram = kernel_says::chosen(1, 3) + kernel_says::ack(1, 0);
  auto messages = parse_datagram(datagram);
  ASSERT_TRUE(messages.ok());
  ASSERT_EQ(messages.value().size(), 2u);
  EXPECT_EQ(parse_index(messages.value()[0]).value(), 3u);
  EXPECT_TRUE(messages.value()[1].is_ack);
}

TEST(NbdMessages, CutOffDatagramsAreRefused) {
  NetlinkBytes whole = kernel_says::status(1, {{0, true}, {9, false}});
  for (std::size_t length = 0; length < whole.size(); ++length) {
    NetlinkBytes part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
    EXPECT_FALSE(parse_datagram(part).ok()) << length;
  }
}

TEST(NbdMessages, ImpossibleAcknowledgementsAreRefused) {
  EXPECT_FALSE(parse_datagram(kernel_says::ack(1, -5)).ok()) << "a positive error";
  EXPECT_FALSE(parse_datagram(kernel_says::ack(1, 5000)).ok()) << "no errno is as big";
  EXPECT_FALSE(parse_datagram(kernel_says::message(NLMSG_ERROR, 0, 1, {})).ok());
  EXPECT_FALSE(parse_datagram(kernel_says::message(kFamilyId, 0, 1, {})).ok()) << "no command";
}

// Whatever comes is parsed or refused; the sanitizers see to the rest.
TEST(NbdMessages, GarbageDoesNoHarm) {
  std::mt19937 random(1);
  NetlinkBytes good = kernel_says::family(1) + kernel_says::status(1, {{0, true}}) +
                      kernel_says::ack(1, EINVAL, "words");
  for (int round = 0; round < 20'000; ++round) {
    NetlinkBytes bad = good;
    for (int i = 0; i < 4; ++i) bad[random() % bad.size()] = static_cast<std::byte>(random());
    auto messages = parse_datagram(bad);
    if (!messages.ok()) continue;
    for (const NetlinkMessage& message : messages.value()) {
      static_cast<void>(parse_family(message).ok());
      static_cast<void>(parse_index(message).ok());
      static_cast<void>(parse_status(message).ok());
    }
  }
}

}  // namespace
}  // namespace nbdkit
