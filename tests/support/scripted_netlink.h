// SPDX-License-Identifier: BSD-3-Clause
// ScriptedKernel: an nbd driver that answers over netlink whatever a test wants it to.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "netlink/nbd_messages.h"
#include "netlink/netlink_socket.h"

namespace nbdkit {

// Messages as the kernel lays them out, byte by byte and without the library under test.
namespace kernel_says {

constexpr std::uint16_t kFamilyId = 31;
constexpr std::uint32_t kGroup = 9;

NetlinkBytes operator+(NetlinkBytes a, const NetlinkBytes& b);
NetlinkBytes u8(std::uint16_t type, std::uint8_t value);
NetlinkBytes u16(std::uint16_t type, std::uint16_t value);
NetlinkBytes u32(std::uint16_t type, std::uint32_t value);
NetlinkBytes text(std::uint16_t type, std::string_view value);  // with its NUL
NetlinkBytes nest(std::uint16_t type, const NetlinkBytes& attributes);

NetlinkBytes message(std::uint16_t type, std::uint16_t flags, std::uint32_t sequence,
                     const NetlinkBytes& payload);
NetlinkBytes command(std::uint8_t command, std::uint32_t sequence, const NetlinkBytes& attributes);
// The acknowledgement; `number` is a positive errno or 0.
NetlinkBytes ack(std::uint32_t sequence, int number, std::string_view words = {});
NetlinkBytes family(std::uint32_t sequence);
NetlinkBytes chosen(std::uint32_t sequence, std::uint32_t index);
NetlinkBytes status(std::uint32_t sequence, const std::vector<DeviceStatus>& devices);
NetlinkBytes link_dead(std::uint32_t index);

}  // namespace kernel_says

// Any thread. Outlives the sockets that its factory makes.
class ScriptedKernel {
 public:
  using Datagrams = std::vector<NetlinkBytes>;
  using Step = std::function<Datagrams(std::uint32_t sequence)>;

  // One after another for the requests that come; when none is left, the family is described and
  // everything else succeeds, with device 0.
  void next(Step step);
  void refuse(int number, std::string words = {});
  // Receiving the answer of the next request fails.
  void lose_answer(std::errc code);
  // The next request does not come back from the driver before release().
  void hang();
  void release();
  void wait_until_hanging();

  void no_driver(std::size_t times);  // The next lookups find none.
  void refuse_sockets(std::errc code);
  // To every socket that has joined the group.
  void event(NetlinkBytes datagram);
  void lose_event();

  NetlinkSocketFactory factory();

  // Without those for the family.
  std::vector<NetlinkBytes> requests() const;
  std::size_t open_sockets() const;

 private:
  class Socket;
  struct Received {
    NetlinkBytes datagram;
    std::errc error{};
  };
  struct Scripted {
    Step step;
    std::errc lost{};
    bool hangs = false;
  };

  std::deque<Received> carry_out(const NetlinkBytes& request);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Scripted> script_;
  std::vector<NetlinkBytes> requests_;
  std::vector<Socket*> joined_;
  std::size_t without_driver_ = 0;
  std::size_t sockets_ = 0;
  std::errc factory_error_{};
  bool hanging_ = false;
  bool released_ = false;
};

}  // namespace nbdkit
