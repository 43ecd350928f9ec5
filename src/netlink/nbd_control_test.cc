// SPDX-License-Identifier: BSD-3-Clause
#include "netlink/nbd_control.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "netlink/exit_code.h"
#include "support/real_loop.h"
#include "support/scripted_netlink.h"

namespace nbdkit {
namespace {

namespace fs = std::filesystem;
using kernel_says::operator+;
using Datagrams = ScriptedKernel::Datagrams;

std::size_t open_descriptors() {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()));
}

template <typename T>
void expect_refusal(const Result<T>& result, ExitCode exit, std::string_view words) {
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(exit_code_of(result.error()), exit) << result.error().message();
  EXPECT_NE(result.error().message().find(words), std::string::npos) << result.error().message();
}

std::uint8_t command_of(const NetlinkBytes& request) {
  return static_cast<std::uint8_t>(request.at(NLMSG_HDRLEN));
}

class NbdControlTest : public testing::Test {
 protected:
  NbdControlTest() {
    char name[] = "/tmp/nbdkit-control-XXXXXX";
    root = ::mkdtemp(name);
    sysfs = Sysfs(root / "sys", root / "proc");
    control.emplace(loop, log, sysfs, kernel.factory());
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ours.reset(ends[0]);
    kernels.reset(ends[1]);
  }
  ~NbdControlTest() override {
    close();
    fs::remove_all(root);
  }

  void open() {
    ASSERT_TRUE(loop.run([&] { return control->open(); }).ok());
  }
  void close() {
    if (!control) return;
    EXPECT_TRUE(loop.run([&] { return control->close(Seconds(10)); }).value());
    control.reset();
  }
  ConnectRequest request() const {
    ConnectRequest request;
    request.size = 1 << 20;
    request.sockets = {kernels.get()};
    return request;
  }
  Result<std::uint32_t> connect(const ConnectRequest& request) {
    return loop.run([&] { return control->connect(request); });
  }
  Result<void> disconnect(std::uint32_t index) {
    return loop.run([&] { return control->disconnect(index); });
  }
  void put_device(std::uint32_t index, bool attached) {
    fs::path disk = root / "sys/block" / ("nbd" + std::to_string(index));
    fs::create_directories(disk);
    if (!attached) return;
    std::ofstream(disk / "pid") << "4242\n";
    std::ofstream(disk / "backend") << "an id\n";
  }

  fs::path root;
  RealLoop loop;
  Log log{"test", false};
  Sysfs sysfs;
  ScriptedKernel kernel;
  std::optional<NbdControl> control;
  UniqueFd ours;
  UniqueFd kernels;
};

TEST_F(NbdControlTest, OpenKeepsTwoSocketsUntilClose) {
  open();
  EXPECT_EQ(kernel.open_sockets(), 2u);
  close();
  EXPECT_EQ(kernel.open_sockets(), 0u);
}

TEST_F(NbdControlTest, AKernelWithoutTheModuleSaysSo) {
  kernel.no_driver(1);
  expect_refusal(loop.run([&] { return control->open(); }), ExitCode::no_module,
                 "kernel module nbd is not loaded: run \"modprobe nbd\"");
}

TEST_F(NbdControlTest, AModuleThatIsNotVisibleIsSaidToBe) {
  fs::create_directories(root / "sys/module/nbd");
  kernel.no_driver(1);
  Modprobe modprobe{"/bin/false", {}, Seconds(10)};
  expect_refusal(loop.run([&] { return control->open(&modprobe); }), ExitCode::no_module,
                 "network namespace");
}

// The kernel might load it by itself when it is asked for, and differently.
TEST_F(NbdControlTest, TheModuleIsLoadedBeforeItIsAskedFor) {
  Modprobe modprobe{"/bin/mkdir", {(root / "loaded").string()}, Seconds(10)};
  EXPECT_TRUE(loop.run([&] { return control->open(&modprobe); }).ok());
  EXPECT_TRUE(fs::exists(root / "loaded"));
}

TEST_F(NbdControlTest, AModuleThatIsThereIsNotLoaded) {
  fs::create_directories(root / "sys/module/nbd");
  Modprobe modprobe{"/bin/mkdir", {(root / "loaded").string()}, Seconds(10)};
  EXPECT_TRUE(loop.run([&] { return control->open(&modprobe); }).ok());
  EXPECT_FALSE(fs::exists(root / "loaded"));
}

TEST_F(NbdControlTest, AModuleThatCannotBeLoadedSaysWhy) {
  kernel.no_driver(1);
  Modprobe modprobe{"/bin/sh", {"-c", "echo no nbd here >&2; exit 1"}, Seconds(10)};
  expect_refusal(loop.run([&] { return control->open(&modprobe); }), ExitCode::no_module,
                 "could not be loaded (no nbd here)");
}

TEST_F(NbdControlTest, AModuleThatLoadsAndIsNotThereSaysSo) {
  kernel.no_driver(1);
  Modprobe modprobe{"/bin/true", {}, Seconds(10)};
  expect_refusal(loop.run([&] { return control->open(&modprobe); }), ExitCode::no_module,
                 "kernel module nbd is not loaded");
}

TEST_F(NbdControlTest, AKernelWithoutNetlinkHasNoDriver) {
  kernel.refuse_sockets(std::errc::protocol_not_supported);
  expect_refusal(loop.run([&] { return control->open(); }), ExitCode::no_module, "nbd");
  kernel.refuse_sockets(std::errc::too_many_files_open);
  expect_refusal(loop.run([&] { return control->open(); }), ExitCode::failure,
                 "looking for the kernel's nbd driver");
}

TEST_F(NbdControlTest, ConnectGivesTheDeviceThatWasChosen) {
  open();
  kernel.next([](std::uint32_t sequence) {
    return Datagrams{kernel_says::chosen(sequence, 5), kernel_says::ack(sequence, 0)};
  });
  EXPECT_EQ(connect(request()).value(), 5u);
}

TEST_F(NbdControlTest, AnExplicitIndexNeedsNoAnswerButTheAcknowledgement) {
  open();
  ConnectRequest wanted = request();
  wanted.index = 7;
  kernel.refuse(0);
  EXPECT_EQ(connect(wanted).value(), 7u);
  kernel.refuse(0);
  expect_refusal(connect(request()), ExitCode::failure, "did not say which device");
}

TEST_F(NbdControlTest, OnlyAnswersOfTheSameSequenceCount) {
  open();
  kernel.next([](std::uint32_t sequence) {
    return Datagrams{
        kernel_says::ack(sequence - 1, EPERM),
        kernel_says::chosen(sequence + 1, 9) + kernel_says::ack(sequence + 1, EBUSY),
        kernel_says::message(NLMSG_NOOP, 0, sequence, {}),
        kernel_says::chosen(sequence, 5) + kernel_says::ack(sequence, 0),
    };
  });
  EXPECT_EQ(connect(request()).value(), 5u);
}

TEST_F(NbdControlTest, AnswersThatAreNoneAreRefused) {
  open();
  kernel.next([](std::uint32_t) { return Datagrams{NetlinkBytes(7)}; });
  expect_refusal(connect(request()), ExitCode::failure, "makes no sense");
  kernel.next([](std::uint32_t sequence) {
    return Datagrams{kernel_says::message(NLMSG_OVERRUN, 0, sequence, {})};
  });
  expect_refusal(connect(request()), ExitCode::failure, "answer was lost");
  kernel.lose_answer(std::errc::no_buffer_space);
  expect_refusal(connect(request()), ExitCode::failure, "answer was lost");
  kernel.lose_answer(std::errc::timed_out);
  expect_refusal(connect(request()), ExitCode::timeout, "did not answer within 10 s");
  kernel.next([](std::uint32_t) {
    return Datagrams(Conversation::kStrayMax + 1, kernel_says::ack(123456, 0));
  });
  expect_refusal(connect(request()), ExitCode::failure, "does not end");
}

TEST_F(NbdControlTest, TheKernelsWordsArePassedOn) {
  open();
  kernel.refuse(EINVAL, "size is odd");
  expect_refusal(connect(request()), ExitCode::invalid_value, "size is odd");
}

TEST_F(NbdControlTest, EveryErrnoOfConnectHasItsExitCode) {
  open();
  struct Row {
    int error;
    ExitCode exit;
    const char* words;
  };
  for (const Row& row : {
           Row{EPERM, ExitCode::not_permitted, "CAP_SYS_ADMIN in the initial user namespace"},
           Row{EACCES, ExitCode::not_permitted, "CAP_SYS_ADMIN"},
           Row{EBUSY, ExitCode::busy, "no free nbd device"},
           Row{EBADF, ExitCode::bad_descriptor, "closed or not connected"},
           Row{ENOTSOCK, ExitCode::bad_descriptor, "closed or not connected"},
           Row{EPIPE, ExitCode::bad_descriptor, "closed or not connected"},
           Row{EINVAL, ExitCode::invalid_value, "this kernel's nbd driver refuses size 1048576"},
           Row{EOPNOTSUPP, ExitCode::not_supported, "this kernel's nbd driver cannot do that"},
           Row{ENOMEM, ExitCode::failure, "attaching a free nbd device: Cannot allocate memory"},
       }) {
    kernel.refuse(row.error);
    expect_refusal(connect(request()), row.exit, row.words);
  }
}

TEST_F(NbdControlTest, ADeviceInUseIsRefusedAtOnce) {
  put_device(3, true);
  open();
  ConnectRequest wanted = request();
  wanted.index = 3;
  kernel.refuse(EBUSY);
  expect_refusal(connect(wanted), ExitCode::busy,
                 "/dev/nbd3 is in use by process 4242 (backend an id)");
  EXPECT_EQ(kernel.requests().size(), 1u);
}

TEST_F(NbdControlTest, ADeviceThatIsOnlyOpenIsTriedAgain) {
  put_device(3, false);
  open();
  ConnectRequest wanted = request();
  wanted.index = 3;
  for (int i = 0; i < 3; ++i) kernel.refuse(EBUSY);
  EXPECT_TRUE(connect(wanted).ok());
  EXPECT_EQ(kernel.requests().size(), 4u);
}

TEST_F(NbdControlTest, TryingAgainEndsWhenClosed) {
  put_device(3, false);
  open();
  ConnectRequest wanted = request();
  wanted.index = 3;
  for (int i = 0; i < 100; ++i) kernel.refuse(EBUSY);
  std::optional<Result<std::uint32_t>> result;
  finish(control->connect(wanted),
         [&](Result<std::uint32_t> ended) { result.emplace(std::move(ended)); });
  close();
  while (!result) ASSERT_TRUE(loop.run([&] { return Task<void>(Result<void>()); }).ok());
  EXPECT_EQ(result->error().code, std::errc::operation_canceled);
}

TEST_F(NbdControlTest, WhatCannotBeIsRefusedBeforeTheKernelIsAsked) {
  open();
  auto refuses = [&](ExitCode exit, std::string_view words, auto change) {
    ConnectRequest wanted = request();
    change(wanted);
    expect_refusal(connect(wanted), exit, words);
  };
  for (std::uint64_t size : {0, 1, 256, 511, 1000, 8192, 1 << 30}) {
    refuses(ExitCode::invalid_value, "is not a power of 2 from 512 to 4096",
            [&](ConnectRequest& wanted) { wanted.block_size = size; });
  }
  refuses(ExitCode::invalid_value, "size would be 0", [](ConnectRequest& w) { w.size = 0; });
  refuses(ExitCode::invalid_value, "more than 2^63 - 1",
          [](ConnectRequest& w) { w.size = std::uint64_t{1} << 63; });
  refuses(ExitCode::invalid_value, "size 1000 is not a multiple of the block size 512",
          [](ConnectRequest& w) { w.size = 1000; });
  refuses(ExitCode::invalid_value, "no socket", [](ConnectRequest& w) { w.sockets.clear(); });
  refuses(ExitCode::invalid_value, "identifier",
          [](ConnectRequest& w) { w.backend.assign(256, 'x'); });
  refuses(ExitCode::not_supported, "2 connections, but this export allows only one",
          [](ConnectRequest& w) { w.sockets.push_back(w.sockets[0]); });
  EXPECT_TRUE(kernel.requests().empty());
}

TEST_F(NbdControlTest, DescriptorsAreCalledWhatTheyAre) {
  open();
  auto refuses = [&](std::string_view words, UniqueFd fd) {
    ConnectRequest wanted = request();
    wanted.sockets = {fd.get()};
    expect_refusal(connect(wanted), ExitCode::bad_descriptor, words);
  };
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  UniqueFd other(ends[1]);
  refuses("is a seqpacket socket (Unix); the kernel needs a connected TCP or Unix stream socket",
          UniqueFd(ends[0]));
  refuses("not a socket", UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC)));
  refuses("not connected", UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));
  refuses("is a datagram socket (internet)", UniqueFd(::socket(AF_INET, SOCK_DGRAM, 0)));
  UniqueFd listening(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr any{};
  any.sa_family = AF_UNIX;
  ASSERT_EQ(::bind(listening.get(), &any, sizeof any.sa_family), 0);  // A name of the kernel's.
  ASSERT_EQ(::listen(listening.get(), 1), 0);
  refuses("a listening socket", std::move(listening));
  ConnectRequest wanted = request();
  wanted.sockets = {12345};
  expect_refusal(connect(wanted), ExitCode::bad_descriptor, "descriptor 12345 is not open");
}

// As long as any copy of the kernel's end is open here, nobody sees that the kernel dropped its
// own.
TEST_F(NbdControlTest, NoCopyOfASocketIsLeft) {
  open();
  ASSERT_TRUE(connect(request()).ok());
  kernels.reset();
  char byte;
  EXPECT_EQ(::recv(ours.get(), &byte, 1, MSG_DONTWAIT), 0) << "the other side is still open";
}

TEST_F(NbdControlTest, ADeviceThatWasAttachedTooLateIsDetachedAgain) {
  open();
  kernel.hang();
  ConnectRequest wanted = request();
  auto result = loop.run([&] { return control->connect(wanted, Milliseconds(30)); });
  expect_refusal(result, ExitCode::timeout, "attaching: the kernel did not answer");
  kernel.release();
  close();
  auto requests = kernel.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(command_of(requests[1]), NBD_CMD_DISCONNECT);
}

// The number of the socket may belong to something else when the driver gets to it.
TEST_F(NbdControlTest, ALateConnectStillHasItsSockets) {
  open();
  kernel.hang();
  ConnectRequest wanted = request();
  EXPECT_FALSE(loop.run([&] { return control->connect(wanted, Milliseconds(30)); }).ok());
  kernels.reset();
  char byte;
  EXPECT_EQ(::recv(ours.get(), &byte, 1, MSG_DONTWAIT), -1) << "the call has a copy of its own";
  kernel.release();
  close();
  EXPECT_EQ(::recv(ours.get(), &byte, 1, MSG_DONTWAIT), 0);
}

TEST_F(NbdControlTest, DisconnectTellsWhatThereWasToDetach) {
  put_device(1, true);
  put_device(2, false);
  open();
  EXPECT_TRUE(disconnect(1).ok());
  EXPECT_EQ(command_of(kernel.requests().at(0)), NBD_CMD_DISCONNECT);
  for (int i = 0; i < 3; ++i) kernel.refuse(EINVAL);
  expect_refusal(disconnect(9), ExitCode::not_attached, "/dev/nbd9: there is no such device");
  expect_refusal(disconnect(2), ExitCode::not_attached, "/dev/nbd2: nothing is attached to it");
  expect_refusal(disconnect(1), ExitCode::not_attached, "is going away");
  kernel.refuse(EPERM);
  expect_refusal(disconnect(1), ExitCode::not_permitted, "detaching /dev/nbd1 needs CAP_SYS_ADMIN");
  kernel.refuse(ENOMEM);
  expect_refusal(disconnect(1), ExitCode::failure, "detaching /dev/nbd1: Cannot allocate memory");
}

TEST_F(NbdControlTest, ReconfigureTellsWhatIsWrong) {
  put_device(1, true);
  put_device(2, false);
  open();
  auto reconfigure = [&](std::uint32_t index, std::string backend, int error) {
    ReconfigureRequest wanted;
    wanted.index = index;
    wanted.backend = std::move(backend);
    wanted.sockets = {kernels.get()};
    kernel.refuse(error);
    return loop.run([&] { return control->reconfigure(wanted); });
  };
  EXPECT_TRUE(reconfigure(1, "an id", 0).ok());
  expect_refusal(reconfigure(9, "an id", EINVAL), ExitCode::not_attached, "no such device");
  expect_refusal(reconfigure(2, "an id", EINVAL), ExitCode::not_attached, "nothing is attached");
  expect_refusal(reconfigure(1, "other", EINVAL), ExitCode::identity_mismatch,
                 "it belongs to \"an id\", not to \"other\"");
  expect_refusal(reconfigure(1, "an id", EINVAL), ExitCode::invalid_value, "/dev/nbd1");
  expect_refusal(reconfigure(1, "an id", EPERM), ExitCode::not_permitted, "CAP_SYS_ADMIN");
  expect_refusal(reconfigure(1, "an id", EBADF), ExitCode::bad_descriptor, "closed");
  expect_refusal(reconfigure(1, "an id", EOPNOTSUPP), ExitCode::not_supported, "cannot do that");
  expect_refusal(reconfigure(1, "an id", EIO), ExitCode::failure, "/dev/nbd1: Input/output error");
  kernels.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  expect_refusal(reconfigure(1, "an id", 0), ExitCode::bad_descriptor, "not a socket");
}

TEST_F(NbdControlTest, AStatusInSeveralPartsIsOne) {
  open();
  kernel.next([](std::uint32_t sequence) {
    return Datagrams{kernel_says::status(sequence, {{0, true}}),
                     kernel_says::status(sequence, {{1, false}, {2, true}}),
                     kernel_says::ack(sequence, 0)};
  });
  auto devices = loop.run([&] { return control->status(std::nullopt); });
  ASSERT_TRUE(devices.ok());
  ASSERT_EQ(devices.value().size(), 3u);
  EXPECT_EQ(devices.value()[2].index, 2u);
  kernel.next([](std::uint32_t sequence) {
    return Datagrams{kernel_says::command(NBD_CMD_STATUS, sequence, {}),
                     kernel_says::ack(sequence, 0)};
  });
  EXPECT_FALSE(loop.run([&] { return control->status(1); }).ok());
}

TEST_F(NbdControlTest, EventsAreTold) {
  open();
  pollfd readable{control->events_fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&readable, 1, 0), 0);
  kernel.event(kernel_says::link_dead(4));
  kernel.event(kernel_says::link_dead(4) + kernel_says::link_dead(1));
  kernel.event(kernel_says::chosen(0, 3));
  EXPECT_EQ(::poll(&readable, 1, 0), 1);
  auto events = control->take_events();
  ASSERT_TRUE(events.ok());
  EXPECT_EQ(events.value().dead, (std::vector<std::uint32_t>{4, 4, 1}));
  EXPECT_FALSE(events.value().missed);
  EXPECT_EQ(::poll(&readable, 1, 0), 0);
  kernel.lose_event();
  kernel.event(kernel_says::link_dead(2));
  events = control->take_events();
  EXPECT_TRUE(events.value().missed);
  EXPECT_EQ(events.value().dead, std::vector<std::uint32_t>{2});
  kernel.event(NetlinkBytes(3));
  EXPECT_FALSE(control->take_events().ok());
}

TEST_F(NbdControlTest, NoDescriptorIsLeft) {
  const std::size_t before = open_descriptors();
  open();
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(connect(request()).ok());
    kernel.refuse(EBUSY);
    ASSERT_FALSE(connect(request()).ok());
    kernel.next([](std::uint32_t) { return Datagrams{NetlinkBytes(5)}; });
    ASSERT_FALSE(disconnect(1).ok());
  }
  close();
  EXPECT_EQ(open_descriptors(), before);
}

// Against whatever kernel runs this test, as far as it goes without rights.
TEST(KernelSocket, TheRunningKernelAnswers) {
  RealLoop loop;
  Log log("test", false);
  Sysfs sysfs;
  NbdControl control(loop, log, sysfs);
  auto opened = loop.run([&] { return control.open(); });
  EXPECT_TRUE(opened.ok() || exit_code_of(opened.error()) == ExitCode::no_module)
      << opened.error().message();
  EXPECT_TRUE(loop.run([&] { return control.close(Seconds(10)); }).value());
}

TEST(ExitCode, EveryCodeSurvivesTheError) {
  for (int code = 1; code <= 12; ++code) {
    auto exit = static_cast<ExitCode>(code);
    EXPECT_EQ(exit_code_of(attach_error(exit, "why")), exit);
  }
  EXPECT_EQ(exit_code_of(Error(std::errc::no_space_on_device, {})), ExitCode::failure);
}

}  // namespace
}  // namespace nbdkit
