// SPDX-License-Identifier: BSD-3-Clause
#include "support/scripted_netlink.h"

#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace nbdkit {
namespace kernel_says {
namespace {

template <typename T>
NetlinkBytes bytes_of(const T& value) {
  const auto* begin = reinterpret_cast<const std::byte*>(&value);
  return NetlinkBytes(begin, begin + sizeof value);
}

NetlinkBytes padded(NetlinkBytes bytes) {
  bytes.resize((bytes.size() + 3) & ~std::size_t{3});
  return bytes;
}

NetlinkBytes attribute(std::uint16_t type, const NetlinkBytes& value) {
  nlattr header{};
  header.nla_len = static_cast<std::uint16_t>(sizeof header + value.size());
  header.nla_type = type;
  return padded(bytes_of(header) + value);
}

}  // namespace

NetlinkBytes operator+(NetlinkBytes a, const NetlinkBytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

NetlinkBytes u8(std::uint16_t type, std::uint8_t value) { return attribute(type, bytes_of(value)); }
NetlinkBytes u16(std::uint16_t type, std::uint16_t value) {
  return attribute(type, bytes_of(value));
}
NetlinkBytes u32(std::uint16_t type, std::uint32_t value) {
  return attribute(type, bytes_of(value));
}
NetlinkBytes text(std::uint16_t type, std::string_view value) {
  NetlinkBytes bytes(value.size() + 1);
  std::memcpy(bytes.data(), value.data(), value.size());
  return attribute(type, bytes);
}
NetlinkBytes nest(std::uint16_t type, const NetlinkBytes& attributes) {
  return attribute(type, attributes);
}

NetlinkBytes message(std::uint16_t type, std::uint16_t flags, std::uint32_t sequence,
                     const NetlinkBytes& payload) {
  nlmsghdr header{};
  header.nlmsg_len = static_cast<std::uint32_t>(sizeof header + payload.size());
  header.nlmsg_type = type;
  header.nlmsg_flags = flags;
  header.nlmsg_seq = sequence;
  return padded(bytes_of(header) + payload);
}

NetlinkBytes command(std::uint8_t command, std::uint32_t sequence, const NetlinkBytes& attributes) {
  genlmsghdr header{};
  header.cmd = command;
  header.version = 1;
  return message(kFamilyId, 0, sequence, bytes_of(header) + attributes);
}

NetlinkBytes ack(std::uint32_t sequence, int number, std::string_view words) {
  nlmsgerr error{};
  error.error = -number;
  error.msg.nlmsg_len = sizeof(nlmsghdr);
  std::uint16_t flags = NLM_F_CAPPED;
  NetlinkBytes tlvs;
  if (!words.empty()) {
    flags |= NLM_F_ACK_TLVS;
    tlvs = text(NLMSGERR_ATTR_MSG, words);
  }
  return message(NLMSG_ERROR, flags, sequence, bytes_of(error) + tlvs);
}

NetlinkBytes family(std::uint32_t sequence) {
  genlmsghdr header{};
  header.cmd = CTRL_CMD_NEWFAMILY;
  NetlinkBytes group = text(CTRL_ATTR_MCAST_GRP_NAME, NBD_GENL_MCAST_GROUP_NAME) +
                       u32(CTRL_ATTR_MCAST_GRP_ID, kGroup);
  return message(GENL_ID_CTRL, 0, sequence,
                 bytes_of(header) + text(CTRL_ATTR_FAMILY_NAME, NBD_GENL_FAMILY_NAME) +
                     u16(CTRL_ATTR_FAMILY_ID, kFamilyId) +
                     nest(CTRL_ATTR_MCAST_GROUPS, nest(1, group)));
}

NetlinkBytes chosen(std::uint32_t sequence, std::uint32_t index) {
  return command(NBD_CMD_CONNECT, sequence, u32(NBD_ATTR_INDEX, index));
}

NetlinkBytes status(std::uint32_t sequence, const std::vector<DeviceStatus>& devices) {
  NetlinkBytes list;
  for (const DeviceStatus& device : devices) {
    list = list + nest(NBD_DEVICE_ITEM, u32(NBD_DEVICE_INDEX, device.index) +
                                            u8(NBD_DEVICE_CONNECTED, device.connected ? 1 : 0));
  }
  return command(NBD_CMD_STATUS, sequence, nest(NBD_ATTR_DEVICE_LIST, list));
}

NetlinkBytes link_dead(std::uint32_t index) {
  return command(NBD_CMD_LINK_DEAD, 0, u32(NBD_ATTR_INDEX, index));
}

}  // namespace kernel_says

class ScriptedKernel::Socket final : public NetlinkSocket {
 public:
  explicit Socket(ScriptedKernel& kernel)
      : kernel_(kernel), readable_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  ~Socket() override {
    std::lock_guard lock(kernel_.mutex_);
    --kernel_.sockets_;
    std::erase(kernel_.joined_, this);
  }

  Result<void> send(std::span<const std::byte> message) override {
    auto answer = kernel_.carry_out(NetlinkBytes(message.begin(), message.end()));
    for (Received& one : answer) add(std::move(one));
    return {};
  }

  Result<std::vector<std::byte>> receive(Nanoseconds) override {
    std::lock_guard lock(mutex_);
    if (queue_.empty()) return std::errc::timed_out;
    Received one = std::move(queue_.front());
    queue_.pop_front();
    eventfd_t count;
    if (queue_.empty()) ::eventfd_read(readable_.get(), &count);
    if (one.error != std::errc()) return one.error;
    return std::move(one.datagram);
  }

  Result<void> join(std::uint32_t group) override {
    if (group != kernel_says::kGroup) return std::errc::invalid_argument;
    std::lock_guard lock(kernel_.mutex_);
    kernel_.joined_.push_back(this);
    return {};
  }

  int fd() const override { return readable_.get(); }

  void add(Received one) {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(one));
    ::eventfd_write(readable_.get(), 1);
  }

 private:
  ScriptedKernel& kernel_;
  UniqueFd readable_;
  std::mutex mutex_;
  std::deque<Received> queue_;
};

void ScriptedKernel::next(Step step) {
  std::lock_guard lock(mutex_);
  script_.push_back({std::move(step), {}, false});
}

void ScriptedKernel::refuse(int number, std::string words) {
  next([number, words](std::uint32_t sequence) {
    return Datagrams{kernel_says::ack(sequence, number, words)};
  });
}

void ScriptedKernel::lose_answer(std::errc code) {
  std::lock_guard lock(mutex_);
  script_.push_back({nullptr, code, false});
}

void ScriptedKernel::hang() {
  std::lock_guard lock(mutex_);
  released_ = false;
  script_.push_back({nullptr, {}, true});
}

void ScriptedKernel::release() {
  std::lock_guard lock(mutex_);
  released_ = true;
  changed_.notify_all();
}

void ScriptedKernel::wait_until_hanging() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return hanging_; });
}

void ScriptedKernel::no_driver(std::size_t times) {
  std::lock_guard lock(mutex_);
  without_driver_ = times;
}

void ScriptedKernel::refuse_sockets(std::errc code) {
  std::lock_guard lock(mutex_);
  factory_error_ = code;
}

void ScriptedKernel::event(NetlinkBytes datagram) {
  std::lock_guard lock(mutex_);
  for (Socket* socket : joined_) socket->add({datagram, {}});
}

void ScriptedKernel::lose_event() {
  std::lock_guard lock(mutex_);
  for (Socket* socket : joined_) socket->add({{}, std::errc::no_buffer_space});
}

NetlinkSocketFactory ScriptedKernel::factory() {
  return [this]() -> Result<std::unique_ptr<NetlinkSocket>> {
    std::lock_guard lock(mutex_);
    if (factory_error_ != std::errc()) return factory_error_;
    ++sockets_;
    return std::unique_ptr<NetlinkSocket>(std::make_unique<Socket>(*this));
  };
}

std::vector<NetlinkBytes> ScriptedKernel::requests() const {
  std::lock_guard lock(mutex_);
  return requests_;
}

std::size_t ScriptedKernel::open_sockets() const {
  std::lock_guard lock(mutex_);
  return sockets_;
}

std::deque<ScriptedKernel::Received> ScriptedKernel::carry_out(const NetlinkBytes& request) {
  nlmsghdr header;
  std::memcpy(&header, request.data(), sizeof header);
  const std::uint32_t sequence = header.nlmsg_seq;
  const bool lookup = header.nlmsg_type == GENL_ID_CTRL;
  const auto command = static_cast<std::uint8_t>(request[NLMSG_HDRLEN]);

  std::unique_lock lock(mutex_);
  if (!lookup) requests_.push_back(request);
  if (lookup && without_driver_ > 0) {
    --without_driver_;
    return {{kernel_says::ack(sequence, ENOENT), {}}};
  }
  Scripted scripted;
  if (!script_.empty()) {
    scripted = std::move(script_.front());
    script_.pop_front();
  }
  if (scripted.lost != std::errc()) return {{{}, scripted.lost}};
  if (scripted.hangs) {
    hanging_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return released_; });
    hanging_ = false;
  }
  Datagrams datagrams;
  if (scripted.step) {
    datagrams = scripted.step(sequence);
  } else {
    if (lookup) datagrams.push_back(kernel_says::family(sequence));
    if (!lookup && command == NBD_CMD_CONNECT) {
      datagrams.push_back(kernel_says::chosen(sequence, 0));
    }
    datagrams.push_back(kernel_says::ack(sequence, 0));
  }
  std::deque<Received> answer;
  for (NetlinkBytes& one : datagrams) answer.push_back({std::move(one), {}});
  return answer;
}

}  // namespace nbdkit
