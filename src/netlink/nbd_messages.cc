// SPDX-License-Identifier: BSD-3-Clause
#include "netlink/nbd_messages.h"

#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/nbd.h>
#include <linux/netlink.h>
#include <netlink/attr.h>
#include <netlink/genl/genl.h>
#include <netlink/msg.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "base/check.h"

namespace nbdkit {
namespace {

constexpr int kErrnoMax = 4095;  // The kernel's MAX_ERRNO.

// --- building ---

class Builder {
 public:
  // `room`: bytes of attributes, at least.
  Builder(std::uint16_t family, std::uint32_t sequence, std::uint8_t command, std::uint8_t version,
          std::size_t room)
      : message_(::nlmsg_alloc_size(NLMSG_HDRLEN + GENL_HDRLEN + kRoomMin + room)) {
    NBDKIT_CHECK(message_ != nullptr);
    NBDKIT_CHECK(::genlmsg_put(message_.get(), NL_AUTO_PORT, sequence, family, 0,
                               NLM_F_REQUEST | NLM_F_ACK, command, version) != nullptr);
  }

  void put(int type, std::uint32_t value) {
    NBDKIT_CHECK(::nla_put_u32(message_.get(), type, value) == 0);
  }
  void put(int type, std::uint64_t value) {
    NBDKIT_CHECK(::nla_put_u64(message_.get(), type, value) == 0);
  }
  void put(int type, Seconds time) { put(type, static_cast<std::uint64_t>(time.count())); }
  void put(int type, const std::string& text) {
    NBDKIT_CHECK(::nla_put_string(message_.get(), type, text.c_str()) == 0);
  }
  void put(int type, ClientFlags flags) {
    std::uint64_t bits = 0;
    if (flags.destroy_on_disconnect) bits |= NBD_CFLAG_DESTROY_ON_DISCONNECT;
    if (flags.disconnect_on_close) bits |= NBD_CFLAG_DISCONNECT_ON_CLOSE;
    put(type, bits);
  }
  void put_sockets(const std::vector<int>& sockets) {
    nlattr* list = open(NBD_ATTR_SOCKETS);
    for (int socket : sockets) {
      nlattr* item = open(NBD_SOCK_ITEM);
      put(NBD_SOCK_FD, static_cast<std::uint32_t>(socket));
      ::nla_nest_end(message_.get(), item);
    }
    ::nla_nest_end(message_.get(), list);
  }

  NetlinkBytes bytes() const {
    const nlmsghdr* header = ::nlmsg_hdr(message_.get());
    const auto* begin = reinterpret_cast<const std::byte*>(header);
    return NetlinkBytes(begin, begin + header->nlmsg_len);
  }

 private:
  static constexpr std::size_t kRoomMin = 256;  // Every attribute of fixed size, several times.

  struct Free {
    void operator()(nl_msg* message) const { ::nlmsg_free(message); }
  };

  nlattr* open(int type) {
    nlattr* nest = ::nla_nest_start(message_.get(), type);
    NBDKIT_CHECK(nest != nullptr);
    return nest;
  }

  std::unique_ptr<nl_msg, Free> message_;
};

constexpr std::size_t kSocketRoom = 16;  // An item with its descriptor.

// --- parsing ---

// libnl's views are not const, and it never writes through them.
nlattr* attributes_of(std::span<const std::byte> bytes) {
  return reinterpret_cast<nlattr*>(const_cast<std::byte*>(bytes.data()));
}

template <std::size_t N>
using AttributeTable = std::array<nlattr*, N + 1>;

// Attributes of `bytes` by type; false when one has not the size that `policy` asks for.
template <std::size_t N>
bool parse_attributes(AttributeTable<N>& table, std::span<const std::byte> bytes,
                      std::array<nla_policy, N + 1> policy) {
  return ::nla_parse(table.data(), N, attributes_of(bytes), static_cast<int>(bytes.size()),
                     policy.data()) == 0;
}

std::span<const std::byte> payload_of(const nlattr* attribute) {
  return {static_cast<const std::byte*>(::nla_data(attribute)),
          static_cast<std::size_t>(::nla_len(attribute))};
}

nla_policy of_type(std::uint16_t type) {
  nla_policy policy{};
  policy.type = type;
  return policy;
}

// Text from outside goes into one line of ours.
std::string printable(std::span<const std::byte> bytes) {
  constexpr std::size_t kWordsMax = 512;
  std::string text(reinterpret_cast<const char*>(bytes.data()), std::min(bytes.size(), kWordsMax));
  text.resize(std::strlen(text.c_str()));
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return text;
}

std::string words_of(std::span<const std::byte> bytes) {
  constexpr std::size_t kMax = NLMSGERR_ATTR_MAX;
  AttributeTable<kMax> table{};
  std::array<nla_policy, kMax + 1> policy{};
  policy[NLMSGERR_ATTR_MISS_TYPE] = of_type(NLA_U32);
  if (!parse_attributes<kMax>(table, bytes, policy)) return {};
  if (table[NLMSGERR_ATTR_MSG] != nullptr) return printable(payload_of(table[NLMSGERR_ATTR_MSG]));
  if (table[NLMSGERR_ATTR_MISS_TYPE] != nullptr) {
    return "attribute " + std::to_string(::nla_get_u32(table[NLMSGERR_ATTR_MISS_TYPE])) +
           " is missing";
  }
  return {};
}

bool parse_ack(const nlmsghdr* header, std::span<const std::byte> payload, NetlinkMessage& out) {
  nlmsgerr ack;
  if (payload.size() < sizeof ack) return false;
  std::memcpy(&ack, payload.data(), sizeof ack);
  if (ack.error > 0 || ack.error < -kErrnoMax) return false;
  out.is_ack = true;
  out.error = -ack.error;
  if ((header->nlmsg_flags & NLM_F_ACK_TLVS) == 0) return true;
  // Behind a copy of the request, unless that was left out; with an error the copy is whole.
  std::size_t copy = 0;
  if ((header->nlmsg_flags & NLM_F_CAPPED) == 0 && ack.error != 0) {
    if (ack.msg.nlmsg_len < NLMSG_HDRLEN) return false;
    copy = NLMSG_ALIGN(std::size_t{ack.msg.nlmsg_len}) - NLMSG_HDRLEN;
  }
  if (copy > payload.size() - sizeof ack) return false;
  out.words = words_of(payload.subspan(sizeof ack + copy));
  return true;
}

bool parse_one(const nlmsghdr* header, NetlinkMessage& out) {
  std::span<const std::byte> payload{
      static_cast<const std::byte*>(::nlmsg_data(header)),
      static_cast<std::size_t>(::nlmsg_datalen(header)),
  };
  out.type = header->nlmsg_type;
  out.sequence = header->nlmsg_seq;
  if (header->nlmsg_type == NLMSG_ERROR) return parse_ack(header, payload, out);
  if (header->nlmsg_type < NLMSG_MIN_TYPE) return true;
  if (payload.size() < GENL_HDRLEN) return false;
  out.command = static_cast<std::uint8_t>(payload[0]);
  out.attributes = payload.subspan(GENL_HDRLEN);
  return true;
}

Error garbage(const char* what) {
  return Error(std::errc::bad_message, std::string("the kernel's answer makes no sense: ") + what);
}

// The group's number when it is the one of the nbd driver's events.
bool parse_group(const nlattr* item, std::uint32_t& number) {
  constexpr std::size_t kMax = CTRL_ATTR_MCAST_GRP_MAX;
  AttributeTable<kMax> table{};
  std::array<nla_policy, kMax + 1> policy{};
  policy[CTRL_ATTR_MCAST_GRP_NAME] = of_type(NLA_NUL_STRING);
  policy[CTRL_ATTR_MCAST_GRP_ID] = of_type(NLA_U32);
  if (!parse_attributes<kMax>(table, payload_of(item), policy)) return false;
  if (table[CTRL_ATTR_MCAST_GRP_NAME] == nullptr || table[CTRL_ATTR_MCAST_GRP_ID] == nullptr) {
    return false;
  }
  std::string_view name = ::nla_get_string(table[CTRL_ATTR_MCAST_GRP_NAME]);
  if (name != NBD_GENL_MCAST_GROUP_NAME) return false;
  number = ::nla_get_u32(table[CTRL_ATTR_MCAST_GRP_ID]);
  return true;
}

bool parse_device(const nlattr* item, DeviceStatus& device) {
  constexpr std::size_t kMax = NBD_DEVICE_ATTR_MAX;
  AttributeTable<kMax> table{};
  std::array<nla_policy, kMax + 1> policy{};
  policy[NBD_DEVICE_INDEX] = of_type(NLA_U32);
  policy[NBD_DEVICE_CONNECTED] = of_type(NLA_U8);
  if (!parse_attributes<kMax>(table, payload_of(item), policy)) return false;
  if (table[NBD_DEVICE_INDEX] == nullptr || table[NBD_DEVICE_CONNECTED] == nullptr) return false;
  device.index = ::nla_get_u32(table[NBD_DEVICE_INDEX]);
  device.connected = ::nla_get_u8(table[NBD_DEVICE_CONNECTED]) != 0;
  return true;
}

bool parse_nbd(const NetlinkMessage& message, AttributeTable<NBD_ATTR_MAX>& table) {
  std::array<nla_policy, NBD_ATTR_MAX + 1> policy{};
  policy[NBD_ATTR_INDEX] = of_type(NLA_U32);
  policy[NBD_ATTR_DEVICE_LIST] = of_type(NLA_NESTED);
  return parse_attributes<NBD_ATTR_MAX>(table, message.attributes, policy);
}

}  // namespace

NetlinkBytes build_family_request(std::uint32_t sequence) {
  Builder builder(GENL_ID_CTRL, sequence, CTRL_CMD_GETFAMILY, 1, 0);
  builder.put(CTRL_ATTR_FAMILY_NAME, std::string(NBD_GENL_FAMILY_NAME));
  return builder.bytes();
}

NetlinkBytes build_connect(const NbdFamily& family, std::uint32_t sequence,
                           const ConnectRequest& request) {
  Builder builder(family.id, sequence, NBD_CMD_CONNECT, NBD_GENL_VERSION,
                  request.backend.size() + kSocketRoom * request.sockets.size());
  // No index at all asks for a free device; kernels differ in what they make of a special value.
  if (request.index) builder.put(NBD_ATTR_INDEX, *request.index);
  builder.put(NBD_ATTR_SIZE_BYTES, request.size);
  builder.put(NBD_ATTR_BLOCK_SIZE_BYTES, request.block_size);
  // Also when it is 0: an absent one means what the device's last user left there.
  builder.put(NBD_ATTR_TIMEOUT, request.request_timeout);
  builder.put(NBD_ATTR_SERVER_FLAGS, request.server_flags);
  builder.put(NBD_ATTR_CLIENT_FLAGS, request.client_flags);
  builder.put(NBD_ATTR_DEAD_CONN_TIMEOUT, request.dead_timeout);
  if (!request.backend.empty()) builder.put(NBD_ATTR_BACKEND_IDENTIFIER, request.backend);
  builder.put_sockets(request.sockets);
  return builder.bytes();
}

NetlinkBytes build_disconnect(const NbdFamily& family, std::uint32_t sequence,
                              std::uint32_t index) {
  Builder builder(family.id, sequence, NBD_CMD_DISCONNECT, NBD_GENL_VERSION, 0);
  builder.put(NBD_ATTR_INDEX, index);
  return builder.bytes();
}

NetlinkBytes build_reconfigure(const NbdFamily& family, std::uint32_t sequence,
                               const ReconfigureRequest& request) {
  NBDKIT_CHECK(!request.size || request.sockets.empty());
  Builder builder(family.id, sequence, NBD_CMD_RECONFIGURE, NBD_GENL_VERSION,
                  request.backend.size() + kSocketRoom * request.sockets.size());
  builder.put(NBD_ATTR_INDEX, request.index);
  if (!request.backend.empty()) builder.put(NBD_ATTR_BACKEND_IDENTIFIER, request.backend);
  if (request.size) builder.put(NBD_ATTR_SIZE_BYTES, *request.size);
  if (request.request_timeout) builder.put(NBD_ATTR_TIMEOUT, *request.request_timeout);
  if (request.dead_timeout) builder.put(NBD_ATTR_DEAD_CONN_TIMEOUT, *request.dead_timeout);
  if (request.client_flags) builder.put(NBD_ATTR_CLIENT_FLAGS, *request.client_flags);
  if (!request.sockets.empty()) builder.put_sockets(request.sockets);
  return builder.bytes();
}

NetlinkBytes build_status(const NbdFamily& family, std::uint32_t sequence,
                          std::optional<std::uint32_t> index) {
  Builder builder(family.id, sequence, NBD_CMD_STATUS, NBD_GENL_VERSION, 0);
  if (index) builder.put(NBD_ATTR_INDEX, *index);
  return builder.bytes();
}

Result<std::vector<NetlinkMessage>> parse_datagram(std::span<const std::byte> datagram) {
  std::vector<NetlinkMessage> messages;
  auto* header = reinterpret_cast<nlmsghdr*>(const_cast<std::byte*>(datagram.data()));
  int left = static_cast<int>(datagram.size());
  while (::nlmsg_ok(header, left) != 0) {
    NetlinkMessage message;
    if (!parse_one(header, message)) return garbage("a message is too short");
    messages.push_back(std::move(message));
    header = ::nlmsg_next(header, &left);
  }
  if (left > 0 || messages.empty()) return garbage("it is cut off");
  return messages;
}

Result<NbdFamily> parse_family(const NetlinkMessage& message) {
  AttributeTable<CTRL_ATTR_MAX> table{};
  std::array<nla_policy, CTRL_ATTR_MAX + 1> policy{};
  policy[CTRL_ATTR_FAMILY_ID] = of_type(NLA_U16);
  policy[CTRL_ATTR_MCAST_GROUPS] = of_type(NLA_NESTED);
  if (message.command != CTRL_CMD_NEWFAMILY ||
      !parse_attributes<CTRL_ATTR_MAX>(table, message.attributes, policy) ||
      table[CTRL_ATTR_FAMILY_ID] == nullptr || table[CTRL_ATTR_MCAST_GROUPS] == nullptr) {
    return garbage("no description of the nbd driver");
  }
  NbdFamily family;
  family.id = ::nla_get_u16(table[CTRL_ATTR_FAMILY_ID]);
  nlattr* item;
  int left;
  nla_for_each_nested(item, table[CTRL_ATTR_MCAST_GROUPS], left) {
    if (parse_group(item, family.group)) return family;
  }
  return garbage("the nbd driver has no group of events");
}

Result<std::uint32_t> parse_index(const NetlinkMessage& message) {
  AttributeTable<NBD_ATTR_MAX> table{};
  if (!parse_nbd(message, table) || table[NBD_ATTR_INDEX] == nullptr) {
    return garbage("no device number");
  }
  return ::nla_get_u32(table[NBD_ATTR_INDEX]);
}

Result<std::vector<DeviceStatus>> parse_status(const NetlinkMessage& message) {
  AttributeTable<NBD_ATTR_MAX> table{};
  if (message.command != NBD_CMD_STATUS || !parse_nbd(message, table) ||
      table[NBD_ATTR_DEVICE_LIST] == nullptr) {
    return garbage("no list of devices");
  }
  std::vector<DeviceStatus> devices;
  nlattr* item;
  int left;
  nla_for_each_nested(item, table[NBD_ATTR_DEVICE_LIST], left) {
    DeviceStatus device;
    if (!parse_device(item, device)) return garbage("a device in the list is incomplete");
    devices.push_back(device);
  }
  return devices;
}

}  // namespace nbdkit
