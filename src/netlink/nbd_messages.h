// SPDX-License-Identifier: BSD-3-Clause
// What is said to the kernel's nbd driver and what it answers, as bytes (linux/nbd-netlink.h).
// No I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/parse.h"
#include "base/result.h"

namespace nbdkit {

// What the driver does by itself with a device.
struct ClientFlags {
  bool destroy_on_disconnect = false;  // the device vanishes with its attachment
  bool disconnect_on_close = false;    // when the last user closes the node (udev is a user, too)
};

// Transmission flags of the NBD protocol that the driver knows.
constexpr std::uint64_t kServerFlagMultiConn = 1u << 8;

struct ConnectRequest {
  std::optional<std::uint32_t> index;  // a free device, or a new one, when absent
  std::uint64_t size = 0;              // bytes
  std::uint64_t block_size = 512;      // bytes, a power of 2 from 512 to the page size
  std::uint64_t server_flags = 0;      // NBD transmission flags
  ClientFlags client_flags;
  Seconds request_timeout{0};  // after which a socket is killed; 0 is never
  Seconds dead_timeout{0};     // how long requests wait for a new socket when all are dead
  std::string backend;         // identifier that reconfigure() must repeat; may be empty
  std::vector<int> sockets;    // connected stream sockets, lent for the call
};

// What is absent stays as it is. A changed size and new sockets never go together: the driver
// waits for requests that are stuck on the dead sockets, for ever, with a lock that every user of
// generic netlink needs.
struct ReconfigureRequest {
  std::uint32_t index = 0;
  std::string backend;       // as at connect
  std::vector<int> sockets;  // replace dead ones; those for which none is dead are dropped silently
  std::optional<std::uint64_t> size;
  std::optional<Seconds> request_timeout;
  std::optional<Seconds> dead_timeout;
  std::optional<ClientFlags> client_flags;
};

struct DeviceStatus {
  std::uint32_t index = 0;
  bool connected = false;  // also true of a device that is only held open: see Sysfs
};

struct NbdFamily {
  std::uint16_t id = 0;     // message type
  std::uint32_t group = 0;  // multicast group of the events
};

using NetlinkBytes = std::vector<std::byte>;

NetlinkBytes build_family_request(std::uint32_t sequence);
NetlinkBytes build_connect(const NbdFamily& family, std::uint32_t sequence,
                           const ConnectRequest& request);
NetlinkBytes build_disconnect(const NbdFamily& family, std::uint32_t sequence, std::uint32_t index);
NetlinkBytes build_reconfigure(const NbdFamily& family, std::uint32_t sequence,
                               const ReconfigureRequest& request);
NetlinkBytes build_status(const NbdFamily& family, std::uint32_t sequence,
                          std::optional<std::uint32_t> index);

// One message out of a datagram.
struct NetlinkMessage {
  std::uint16_t type = 0;
  std::uint32_t sequence = 0;
  // Of an acknowledgement: 0 or a positive errno, and the kernel's own words if it has any.
  bool is_ack = false;
  int error = 0;
  std::string words;
  // Of anything else: command and attributes, a view of the datagram.
  std::uint8_t command = 0;
  std::span<const std::byte> attributes;
};

// bad_message when the bytes are not whole netlink messages one after another.
Result<std::vector<NetlinkMessage>> parse_datagram(std::span<const std::byte> datagram);

// Errors: bad_message, when something that must be there is missing or has the wrong size.
Result<NbdFamily> parse_family(const NetlinkMessage& message);
Result<std::uint32_t> parse_index(const NetlinkMessage& message);  // of CONNECT and LINK_DEAD
Result<std::vector<DeviceStatus>> parse_status(const NetlinkMessage& message);

}  // namespace nbdkit
