// SPDX-License-Identifier: BSD-3-Clause
#include "netlink/sysfs.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace nbdkit {
namespace {

namespace fs = std::filesystem;

// A /sys and a /proc of the test's own.
class SysfsTest : public testing::Test {
 protected:
  SysfsTest() {
    char name[] = "/tmp/nbdkit-sysfs-XXXXXX";
    root = ::mkdtemp(name);
  }
  ~SysfsTest() override { fs::remove_all(root); }

  void put(const std::string& path, std::string_view text) {
    fs::path file = root / path;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  std::string get(const std::string& path) {
    std::ifstream file(root / path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void put_idle(std::uint32_t index) {
    std::string disk = "sys/block/nbd" + std::to_string(index);
    put(disk + "/size", "0\n");
    put(disk + "/dev", "43:" + std::to_string(index * 32) + "\n");
    put(disk + "/ro", "0\n");
    put(disk + "/inflight", "       0        0\n");
    put(disk + "/queue/logical_block_size", "512\n");
    put(disk + "/queue/io_timeout", "30000\n");
    put(disk + "/queue/max_sectors_kb", "128\n");
    fs::create_directories(root / disk / "holders");
  }
  void put_attached(std::uint32_t index) {
    put_idle(index);
    std::string name = "nbd" + std::to_string(index);
    std::string disk = "sys/block/" + name;
    put(disk + "/pid", "4242\n");
    put(disk + "/backend", "an id\n");
    put(disk + "/size", "2048\n");
    put(disk + "/diskseq", "17\n");
    put(disk + "/ro", "1\n");
    put(disk + "/inflight", "       3        5\n");
    put(disk + "/stat", "  10  1  16  5  20  2  32  6  3  7  8  30  4  64  9  40  11\n");
    put(disk + "/holders/dm-0", "");
    put(disk + "/" + name + "p10/start", "1024\n");
    put(disk + "/" + name + "p10/size", "8\n");
    put(disk + "/" + name + "p2/start", "64\n");
    put(disk + "/" + name + "p2/size", "16\n");
    put(disk + "/" + name + "p2/holders/md0", "");
  }

  fs::path root;
  Sysfs sysfs() { return Sysfs(root / "sys", root / "proc"); }
};

TEST_F(SysfsTest, AnAttachedDeviceIsRead) {
  put_attached(3);
  auto device = sysfs().device(3);
  ASSERT_TRUE(device.ok());
  const NbdDevice& it = device.value();
  EXPECT_EQ(it.index, 3u);
  EXPECT_EQ(it.node(), "/dev/nbd3");
  EXPECT_EQ(it.number, makedev(43, 96));
  EXPECT_TRUE(it.attached());
  EXPECT_EQ(it.pid, 4242);
  EXPECT_EQ(it.backend, "an id");
  EXPECT_EQ(it.size, 2048u * 512);
  EXPECT_EQ(it.diskseq, 17u);
  EXPECT_EQ(it.block_size, 512u);
  EXPECT_TRUE(it.read_only);
  EXPECT_EQ(it.reads_in_flight, 3u);
  EXPECT_EQ(it.writes_in_flight, 5u);
  EXPECT_EQ(it.io_timeout_ms, 30'000u);
  EXPECT_EQ(it.max_sectors_kb, 128u);
  EXPECT_EQ(it.holders, std::vector<std::string>{"dm-0"});
}

TEST_F(SysfsTest, CountersAreRead) {
  put_attached(3);
  auto counters = sysfs().counters(3);
  ASSERT_TRUE(counters.ok());
  EXPECT_EQ(counters.value().reads.requests, 10u);
  EXPECT_EQ(counters.value().reads.bytes, 16u * 512);
  EXPECT_EQ(counters.value().writes.milliseconds, 6u);
  EXPECT_EQ(counters.value().trims.bytes, 64u * 512);
  EXPECT_EQ(counters.value().flushes.requests, 40u);
  EXPECT_EQ(counters.value().flushes.milliseconds, 11u);
  EXPECT_FALSE(sysfs().counters(4).ok());
}

TEST_F(SysfsTest, PartitionsComeInTheOrderOfTheDisk) {
  put_attached(3);
  auto device = sysfs().device(3);
  ASSERT_EQ(device.value().partitions.size(), 2u);
  EXPECT_EQ(device.value().partitions[0].name, "nbd3p2");
  EXPECT_EQ(device.value().partitions[0].start, 64u * 512);
  EXPECT_EQ(device.value().partitions[0].size, 16u * 512);
  EXPECT_EQ(device.value().partitions[0].holders, std::vector<std::string>{"md0"});
  EXPECT_EQ(device.value().partitions[1].name, "nbd3p10");
}

TEST_F(SysfsTest, OnlyThePidSaysThatADeviceIsAttached) {
  put_idle(0);
  EXPECT_FALSE(sysfs().device(0).value().attached());
}

// The driver writes down the thread that sent the request.
TEST_F(SysfsTest, AThreadIsToldAsItsProcess) {
  put_attached(0);
  put("proc/4242/status", "Name:\tnetlink\nUmask:\t0022\nTgid:\t4200\nPid:\t4242\n");
  EXPECT_EQ(sysfs().device(0).value().pid, 4200);
}

TEST_F(SysfsTest, AnAbsentDeviceIsAnError) {
  auto device = sysfs().device(5);
  ASSERT_FALSE(device.ok());
  EXPECT_EQ(device.error().code, std::errc::no_such_device_or_address);
  EXPECT_EQ(device.error().message(), "/dev/nbd5: there is no such device");
}

TEST_F(SysfsTest, FilesThatMakeNoSenseCountAsNothing) {
  put_attached(0);
  put("sys/block/nbd0/size", "many\n");
  put("sys/block/nbd0/pid", "\n");
  put("sys/block/nbd0/inflight", "");
  put("sys/block/nbd0/dev", "43\n");
  auto device = sysfs().device(0);
  ASSERT_TRUE(device.ok());
  EXPECT_EQ(device.value().size, 0u);
  EXPECT_EQ(device.value().pid, 0);
  EXPECT_EQ(device.value().reads_in_flight, 0u);
  EXPECT_EQ(device.value().number, 0u);
}

TEST_F(SysfsTest, DevicesAreListedByNumber) {
  for (std::uint32_t index : {10, 2, 0}) put_idle(index);
  put_attached(9);
  put("sys/block/nbdx/size", "1");
  put("sys/block/sda/size", "1");
  auto all = sysfs().devices(false);
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[1].index, 2u);
  EXPECT_EQ(all[3].index, 10u);
  auto attached = sysfs().devices(true);
  ASSERT_EQ(attached.size(), 1u);
  EXPECT_EQ(attached[0].index, 9u);
}

TEST_F(SysfsTest, KnobsAreWritten) {
  put_idle(0);
  EXPECT_TRUE(sysfs().set_io_timeout(0, Milliseconds(2000)).ok());
  EXPECT_EQ(get("sys/block/nbd0/queue/io_timeout").substr(0, 4), "2000");
  EXPECT_EQ(sysfs().attribute(0, "queue/max_sectors_kb"), "128");
  EXPECT_TRUE(sysfs().set_attribute(0, "queue/max_sectors_kb", "4096").ok());
  EXPECT_EQ(get("sys/block/nbd0/queue/max_sectors_kb").substr(0, 4), "4096");
  EXPECT_FALSE(sysfs().attribute(0, "queue/scheduler").has_value());
  auto absent = sysfs().set_attribute(0, "queue/scheduler", "none");
  ASSERT_FALSE(absent.ok());
  EXPECT_EQ(absent.error().message(),
            "/dev/nbd0: setting queue/scheduler to none: No such file or directory");
}

TEST_F(SysfsTest, TheModuleIsSeen) {
  EXPECT_FALSE(sysfs().module_loaded());
  fs::create_directories(root / "sys/module/nbd");
  EXPECT_TRUE(sysfs().module_loaded());
}

TEST_F(SysfsTest, OpenersAreThoseWithANodeOfTheDisk) {
  auto open_in = [&](int pid, const char* command, const char* path) {
    std::string folder = "proc/" + std::to_string(pid);
    put(folder + "/comm", std::string(command) + "\n");
    fs::create_directories(root / folder / "fd");
    fs::create_symlink(path, root / folder / "fd/3");
  };
  open_in(11, "udevd", "/dev/nbd1");
  open_in(12, "mkfs", "/dev/nbd1p3");
  open_in(13, "other", "/dev/nbd10");
  open_in(14, "other", "/dev/nbd1px");
  open_in(15, "other", "/srv/nbd1");
  put("proc/self/comm", "no process\n");
  auto openers = sysfs().openers(1);
  ASSERT_EQ(openers.size(), 2u);
  EXPECT_EQ(openers[0].pid, 11);
  EXPECT_EQ(openers[0].command, "udevd");
  EXPECT_EQ(openers[1].pid, 12);
}

TEST(DeviceName, IsANodeOrItsLastPart) {
  EXPECT_EQ(parse_device_name("/dev/nbd0").value(), 0u);
  EXPECT_EQ(parse_device_name("nbd12").value(), 12u);
  EXPECT_EQ(parse_device_name("nbd1048575").value(), 1048575u);
  for (const char* wrong :
       {"", "nbd", "/dev/", "/dev/nbd", "/dev/sda", "nbd1p1", "nbd-1", "nbd+1", "nbd 1", "nbd01",
        "nbd1048576", "nbd99999999999999999999", "/nbd1", "/dev//nbd1", "dev/nbd1", "nbd1 "}) {
    auto index = parse_device_name(wrong);
    ASSERT_FALSE(index.ok()) << wrong;
    EXPECT_EQ(index.error().code, std::errc::invalid_argument);
  }
}

}  // namespace
}  // namespace nbdkit
