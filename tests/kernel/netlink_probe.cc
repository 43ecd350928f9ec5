// SPDX-License-Identifier: BSD-3-Clause
// The room netlink against the real driver. Run by netlink_test, as root on a kernel with nbd.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>

#include "netlink/exit_code.h"
#include "netlink/nbd_control.h"
#include "support/real_loop.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kSize = 16 * 1024 * 1024;
constexpr std::size_t kBlockSize = 512;

void set_number(std::byte* to, std::uint64_t value, std::size_t size) {
  for (; size > 0; value >>= 8) to[--size] = static_cast<std::byte>(value);
}
std::uint64_t number(const std::byte* from, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < size; ++i) value = value << 8 | static_cast<std::uint64_t>(from[i]);
  return value;
}
bool receive_all(int fd, void* to, std::size_t size) {
  return ::recv(fd, to, size, MSG_WAITALL) == static_cast<ssize_t>(size);
}

// The smallest server there is: reads give zeroes, everything else succeeds.
class Responder {
 public:
  Responder() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    server_.reset(ends[0]);
    kernel_.reset(ends[1]);
    thread_ = std::thread([this] { serve(); });
  }
  ~Responder() {
    kill();
    thread_.join();
  }

  int kernel_end() const { return kernel_.get(); }
  void close_kernel_end() { kernel_.reset(); }
  void kill() {
    killed_ = true;
    ::shutdown(server_.get(), SHUT_RDWR);
  }
  void stop_reading() { frozen_ = true; }
  bool told_to_disconnect() const { return disconnected_; }
  bool ended() const { return ended_; }
  unsigned requests() const { return requests_; }

 private:
  void serve() {
    std::array<std::byte, 28> request;
    while (receive_all(server_.get(), request.data(), request.size())) {
      const auto command = number(request.data() + 6, 2);
      if (command == 2) {
        disconnected_ = true;
        break;
      }
      ++requests_;
      while (frozen_ && !killed_) ::usleep(10'000);
      const auto length = number(request.data() + 24, 4);
      if (command == 1) {
        std::vector<std::byte> payload(length);
        if (!receive_all(server_.get(), payload.data(), length)) break;
      }
      std::vector<std::byte> reply(16 + (command == 0 ? length : 0));
      set_number(reply.data(), 0x67446698, 4);
      std::memcpy(reply.data() + 8, request.data() + 8, 8);
      if (::send(server_.get(), reply.data(), reply.size(), MSG_NOSIGNAL) < 0) break;
    }
    ended_ = true;
  }

  UniqueFd server_;
  UniqueFd kernel_;
  std::atomic<bool> frozen_{false};
  std::atomic<bool> killed_{false};
  std::atomic<bool> disconnected_{false};
  std::atomic<bool> ended_{false};
  std::atomic<unsigned> requests_{0};
  std::thread thread_;
};

template <typename Condition>
bool wait_for(Condition condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    ::usleep(10'000);
  }
  return false;
}

class NetlinkProbe : public testing::Test {
 protected:
  NetlinkProbe() : log("probe", false), control(loop, log, sysfs) {}

  template <typename Start>
  auto run(Start start) -> decltype(start().take()) {
    return loop.run(std::move(start));
  }

  void SetUp() override {
    auto opened = run([&] { return control.open(); });
    ASSERT_TRUE(opened.ok()) << opened.error().message();
  }
  void TearDown() override {
    for (const NbdDevice& device : sysfs.devices(true)) {
      EXPECT_TRUE(run([&] { return control.disconnect(device.index); }).ok());
    }
    EXPECT_TRUE(wait_for([&] { return sysfs.devices(true).empty(); }));
    EXPECT_TRUE(run([&] { return control.close(Seconds(5)); }).value());
  }

  ConnectRequest request_for(const Responder& responder) {
    ConnectRequest request;
    request.size = kSize;
    request.block_size = kBlockSize;
    request.server_flags = 1 | 4;  // FLUSH
    request.dead_timeout = Seconds(30);
    request.backend = "probe";
    request.sockets = {responder.kernel_end()};
    return request;
  }
  std::uint32_t attach(Responder& responder, ConnectRequest request) {
    auto index = run([&] { return control.connect(request); });
    EXPECT_TRUE(index.ok()) << index.error().message();
    responder.close_kernel_end();
    return index.ok() ? index.value() : ~0u;
  }
  std::uint32_t attach(Responder& responder) { return attach(responder, request_for(responder)); }

  static std::string node(std::uint32_t index) { return "/dev/nbd" + std::to_string(index); }

  RealLoop loop;
  Log log;
  Sysfs sysfs;
  NbdControl control;
};

template <typename T>
void expect_refusal(const Result<T>& result, ExitCode exit, std::string_view words) {
  ASSERT_FALSE(result.ok());
  const std::string message = result.error().message();
  std::puts(message.c_str());
  EXPECT_EQ(exit_code_of(result.error()), exit);
  EXPECT_NE(message.find(words), std::string::npos) << "expected to read: " << words;
}

TEST_F(NetlinkProbe, AFreeDeviceIsChosenAndWorks) {
  Responder responder;
  std::uint32_t index = attach(responder);
  auto device = sysfs.device(index);
  ASSERT_TRUE(device.ok());
  EXPECT_EQ(device.value().pid, ::getpid());
  EXPECT_EQ(device.value().size, kSize);
  EXPECT_EQ(device.value().block_size, kBlockSize);
  EXPECT_EQ(device.value().backend, "probe");
  EXPECT_FALSE(device.value().read_only);
  UniqueFd disk(::open(node(index).c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(disk);
  std::array<char, 4096> buffer;
  EXPECT_EQ(::pread(disk.get(), buffer.data(), buffer.size(), kSize - 4096), 4096);
  EXPECT_EQ(::pwrite(disk.get(), buffer.data(), buffer.size(), 0), 4096);
  EXPECT_EQ(::fsync(disk.get()), 0);
  EXPECT_GE(responder.requests(), 3u);
}

TEST_F(NetlinkProbe, DisconnectSaysGoodbyeAndFreesTheDevice) {
  Responder responder;
  std::uint32_t index = attach(responder);
  EXPECT_TRUE(run([&] { return control.disconnect(index); }).ok());
  EXPECT_TRUE(wait_for([&] { return responder.told_to_disconnect(); }));
  EXPECT_TRUE(wait_for([&] { return !sysfs.device(index).value().attached(); }));
  EXPECT_EQ(sysfs.device(index).value().size, 0u);
  EXPECT_TRUE(run([&] { return control.disconnect(index); }).ok()) << "again is no error";
}

TEST_F(NetlinkProbe, ADeviceInUseIsRefusedWithItsOwner) {
  Responder first;
  ConnectRequest request = request_for(first);
  request.index = 1;
  EXPECT_EQ(attach(first, request), 1u);
  Responder second;
  request = request_for(second);
  request.index = 1;
  auto refused = run([&] { return control.connect(request); });
  expect_refusal(refused, ExitCode::busy, "/dev/nbd1 is in use by process");
  EXPECT_NE(refused.error().message().find("backend probe"), std::string::npos);
}

TEST_F(NetlinkProbe, ADeviceThatIsOnlyHeldOpenIsRefusedAfterAWhile) {
  UniqueFd disk(::open("/dev/nbd2", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(disk);
  Responder responder;
  ConnectRequest request = request_for(responder);
  request.index = 2;
  auto before = std::chrono::steady_clock::now();
  auto refused = run([&] { return control.connect(request); });
  EXPECT_GE(std::chrono::steady_clock::now() - before, NbdControl::kOpenedMax);
  expect_refusal(refused, ExitCode::busy, "/dev/nbd2 is held open by process");
}

TEST_F(NetlinkProbe, ADeviceThatIsClosedInTimeIsTaken) {
  UniqueFd disk(::open("/dev/nbd2", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(disk);
  Responder responder;
  ConnectRequest request = request_for(responder);
  request.index = 2;
  std::thread closer([&] {
    ::usleep(300'000);
    disk.reset();
  });
  EXPECT_EQ(attach(responder, request), 2u);
  closer.join();
}

TEST_F(NetlinkProbe, ANewDeviceIsMadeAndVanishes) {
  Responder responder;
  ConnectRequest request = request_for(responder);
  request.index = 9;
  request.client_flags.destroy_on_disconnect = true;
  EXPECT_EQ(attach(responder, request), 9u);
  EXPECT_TRUE(run([&] { return control.disconnect(9); }).ok());
  EXPECT_TRUE(wait_for([&] { return !sysfs.device(9).ok(); }));
  auto gone = run([&] { return control.disconnect(9); });
  expect_refusal(gone, ExitCode::not_attached, "/dev/nbd9: there is no such device");
}

TEST_F(NetlinkProbe, AnIndexBeyondTheMinorNumbersIsRefused) {
  Responder responder;
  ConnectRequest request = request_for(responder);
  request.index = 1'000'000;
  expect_refusal(run([&] { return control.connect(request); }), ExitCode::invalid_value,
                 "number is too high");
}

TEST_F(NetlinkProbe, StatusListsTheDevice) {
  Responder responder;
  std::uint32_t index = attach(responder);
  auto one = run([&] { return control.status(index); });
  ASSERT_TRUE(one.ok());
  ASSERT_EQ(one.value().size(), 1u);
  EXPECT_EQ(one.value()[0].index, index);
  EXPECT_TRUE(one.value()[0].connected);
  auto all = run([&] { return control.status(std::nullopt); });
  ASSERT_TRUE(all.ok());
  EXPECT_GE(all.value().size(), 4u);
  auto none = run([&] { return control.status(12345); });
  ASSERT_TRUE(none.ok());
  EXPECT_TRUE(none.value().empty());
}

TEST_F(NetlinkProbe, ADeadSocketIsToldAndReplaced) {
  auto first = std::make_unique<Responder>();
  std::uint32_t index = attach(*first);
  first->kill();
  LinkEvents events;
  EXPECT_TRUE(wait_for([&] {
    auto taken = control.take_events();
    EXPECT_TRUE(taken.ok());
    events.dead.insert(events.dead.end(), taken.value().dead.begin(), taken.value().dead.end());
    return !events.dead.empty();
  }));
  EXPECT_EQ(events.dead, std::vector<std::uint32_t>{index});
  EXPECT_FALSE(events.missed);

  Responder second;
  ReconfigureRequest again;
  again.index = index;
  again.backend = "probe";
  again.sockets = {second.kernel_end()};
  auto replaced = run([&] { return control.reconfigure(again); });
  ASSERT_TRUE(replaced.ok()) << replaced.error().message();
  second.close_kernel_end();
  UniqueFd disk(::open(node(index).c_str(), O_RDWR | O_CLOEXEC));
  std::array<char, 4096> buffer;
  EXPECT_EQ(::pread(disk.get(), buffer.data(), buffer.size(), 8192), 4096);
  EXPECT_GE(second.requests(), 1u);
}

TEST_F(NetlinkProbe, ASpareSocketIsDroppedWithoutAWord) {
  Responder first;
  std::uint32_t index = attach(first);
  Responder second;
  ReconfigureRequest again;
  again.index = index;
  again.backend = "probe";
  again.sockets = {second.kernel_end()};
  EXPECT_TRUE(run([&] { return control.reconfigure(again); }).ok());
  second.close_kernel_end();
  EXPECT_TRUE(wait_for([&] { return second.ended(); })) << "only the end of the socket tells";
}

TEST_F(NetlinkProbe, ReconfigureAsksForTheSameBackend) {
  Responder responder;
  std::uint32_t index = attach(responder);
  ReconfigureRequest other;
  other.index = index;
  other.backend = "another";
  other.dead_timeout = Seconds(10);
  expect_refusal(run([&] { return control.reconfigure(other); }), ExitCode::identity_mismatch,
                 "belongs to \"probe\", not to \"another\"");
  other.index = 3;
  expect_refusal(run([&] { return control.reconfigure(other); }), ExitCode::not_attached,
                 "nothing is attached");
  other.index = 77;
  expect_refusal(run([&] { return control.reconfigure(other); }), ExitCode::not_attached,
                 "no such device");
}

TEST_F(NetlinkProbe, TheSizeCanChange) {
  Responder responder;
  std::uint32_t index = attach(responder);
  ReconfigureRequest bigger;
  bigger.index = index;
  bigger.backend = "probe";
  bigger.size = 2 * kSize;
  EXPECT_TRUE(run([&] { return control.reconfigure(bigger); }).ok());
  EXPECT_EQ(sysfs.device(index).value().size, 2 * kSize);
}

TEST_F(NetlinkProbe, KnobsOfTheQueueAreSet) {
  Responder responder;
  std::uint32_t index = attach(responder);
  ASSERT_TRUE(sysfs.set_io_timeout(index, Milliseconds(2000)).ok());
  ASSERT_TRUE(sysfs.set_attribute(index, "queue/max_sectors_kb", "4096").ok());
  ASSERT_TRUE(sysfs.set_attribute(index, "queue/read_ahead_kb", "256").ok());
  ASSERT_TRUE(sysfs.set_attribute(index, "queue/scheduler", "none").ok());
  auto device = sysfs.device(index);
  EXPECT_EQ(device.value().io_timeout_ms, 2000u);
  EXPECT_EQ(device.value().max_sectors_kb, 4096u);
  auto wrong = sysfs.set_attribute(index, "queue/scheduler", "no-such-thing");
  ASSERT_FALSE(wrong.ok());
  std::puts(wrong.error().message().c_str());
}

TEST_F(NetlinkProbe, OpenersAreFound) {
  Responder responder;
  std::uint32_t index = attach(responder);
  EXPECT_TRUE(sysfs.openers(index).empty());
  UniqueFd disk(::open(node(index).c_str(), O_RDONLY | O_CLOEXEC));
  auto openers = sysfs.openers(index);
  ASSERT_EQ(openers.size(), 1u);
  EXPECT_EQ(openers[0].pid, ::getpid());
  EXPECT_EQ(openers[0].command, "netlink_probe");
}

// A server that stopped reading: the driver blocks in DISCONNECT, with the lock of all generic
// netlink, until the server's end is shut down.
TEST_F(NetlinkProbe, ACallThatHangsIsGivenUpAndEndsLater) {
  Responder responder;
  std::uint32_t index = attach(responder);
  UniqueFd disk(::open(node(index).c_str(), O_RDWR | O_CLOEXEC));
  std::vector<char> data(kSize, 'x');
  ASSERT_EQ(::pwrite(disk.get(), data.data(), data.size(), 0), static_cast<ssize_t>(kSize));
  responder.stop_reading();
  const unsigned before = responder.requests();
  std::thread writer([&] { EXPECT_LT(::fsync(disk.get()), 0) << "the device went meanwhile"; });
  EXPECT_TRUE(wait_for([&] { return responder.requests() > before; }));
  ::usleep(200'000);  // Until the socket is full; nothing tells.
  expect_refusal(run([&] { return control.disconnect(index, Milliseconds(500)); }),
                 ExitCode::timeout, "detaching /dev/nbd0: the kernel did not answer within 1 s");

  NbdControl other(loop, log, sysfs);
  expect_refusal(run([&] { return other.open(nullptr, Milliseconds(500)); }), ExitCode::timeout,
                 "looking for the kernel's nbd driver: the kernel did not answer");
  EXPECT_FALSE(run([&] { return other.close(Milliseconds(100)); }).value())
      << "its thread is stuck, too";

  responder.kill();
  writer.join();
  EXPECT_TRUE(wait_for([&] { return run([&] { return control.status(index); }).ok(); }));
}

TEST_F(NetlinkProbe, ANobodyMayNotAttach) {
  // The right is asked for when the socket was opened and when it is used.
  ASSERT_EQ(::seteuid(65534), 0);
  Responder responder;
  ConnectRequest request = request_for(responder);
  auto refused = run([&] { return control.connect(request); });
  ASSERT_EQ(::seteuid(0), 0);
  expect_refusal(refused, ExitCode::not_permitted, "needs CAP_SYS_ADMIN");
}

// The two below want another place to run in: netlink_test and netlink_module_test see to it.

struct Driver {
  Result<void> open(const Modprobe* modprobe) {
    NbdControl control(loop, log, sysfs);
    auto opened = loop.run([&] { return control.open(modprobe); });
    EXPECT_TRUE(loop.run([&] { return control.close(Seconds(5)); }).value());
    return opened;
  }

  RealLoop loop;
  Log log{"probe", false};
  Sysfs sysfs;
};

TEST(OtherNamespace, TheDriverCannotBeSeen) {
  Modprobe modprobe;
  expect_refusal(Driver().open(&modprobe), ExitCode::no_module, "network namespace");
}

TEST(WithoutDriver, NobodyLoadsItUnasked) {
  Driver driver;
  expect_refusal(driver.open(nullptr), ExitCode::no_module, "kernel module nbd is not loaded");
  Modprobe wrong;
  wrong.arguments = {"no-such-module"};
  expect_refusal(driver.open(&wrong), ExitCode::no_module, "no-such-module not found");
}

TEST(WithoutDriver, ThenItIsLoadedWithoutIdleDevices) {
  Driver driver;
  Modprobe modprobe;
  auto opened = driver.open(&modprobe);
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  EXPECT_TRUE(driver.sysfs.devices(false).empty());
}

}  // namespace
}  // namespace nbdkit
