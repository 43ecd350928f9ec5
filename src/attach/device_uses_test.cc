// SPDX-License-Identifier: BSD-3-Clause
#include "attach/device_uses.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace nbdkit {
namespace {

namespace fs = std::filesystem;

// The kernel's files as they look with /dev/nbd0 (43:0) and a partition (43:1).
struct DeviceUsesTest : testing::Test {
  DeviceUsesTest() {
    std::string pattern = (fs::temp_directory_path() / "uses.XXXXXX").string();
    root = ::mkdtemp(pattern.data());
    files = {root / "sys", root / "proc"};
    write("sys/block/nbd0/dev", "43:0\n");
    write("sys/block/nbd0/nbd0p1/dev", "43:1\n");
    write("proc/swaps", "Filename Type Size Used Priority\n");
    write("proc/self/mountinfo", "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n");
    link("proc/self/ns/mnt", "mnt:[1]");
    device.index = 0;
    device.partitions.push_back({"nbd0p1", 0, 1 << 20, {}});
  }
  ~DeviceUsesTest() override { fs::remove_all(root); }

  void write(const fs::path& name, std::string_view text) {
    fs::create_directories((root / name).parent_path());
    std::ofstream(root / name, std::ios::app) << text;
  }
  void link(const fs::path& name, const fs::path& target) {
    fs::create_directories((root / name).parent_path());
    fs::create_symlink(target, root / name);
  }
  std::string uses() { return describe_uses(find_uses(files, device)); }

  fs::path root;
  KernelFiles files;
  NbdDevice device;
};

TEST_F(DeviceUsesTest, NobodyUsesIt) { EXPECT_EQ(uses(), ""); }

TEST_F(DeviceUsesTest, AMountIsFoundByItsNumber) {
  write("proc/self/mountinfo", "36 22 43:0 / /mnt/my\\040disk rw - ext4 /dev/root rw\n");
  EXPECT_EQ(uses(), "mounted on /mnt/my disk");
}

TEST_F(DeviceUsesTest, AMountOfAPartitionIsNamed) {
  write("proc/self/mountinfo", "36 22 43:1 / /mnt rw shared:7 master:2 - ext4 /dev/nbd0p1 rw\n");
  EXPECT_EQ(uses(), "/dev/nbd0p1 is mounted on /mnt");
}

TEST_F(DeviceUsesTest, AMountWithANumberOfItsOwnIsFoundByItsSource) {
  write("proc/self/mountinfo", "36 22 0:52 /sub /mnt rw - btrfs /dev/nbd0 rw\n");
  EXPECT_EQ(uses(), "mounted on /mnt");
}

TEST_F(DeviceUsesTest, AMountInAnotherNamespaceIsFound) {
  link("proc/100/ns/mnt", "mnt:[1]");
  write("proc/100/mountinfo", "36 22 43:0 / /not-read-twice rw - ext4 /dev/nbd0 rw\n");
  link("proc/200/ns/mnt", "mnt:[2]");
  write("proc/200/mountinfo", "36 22 43:0 / /data rw - ext4 /dev/nbd0 rw\n");
  EXPECT_EQ(uses(), "mounted on /data (in the mount namespace of process 200)");
}

TEST_F(DeviceUsesTest, SwapIsFound) {
  write("proc/swaps", "/dev/nbd0p1                             partition\t1020\t0\t-2\n");
  EXPECT_EQ(uses(), "/dev/nbd0p1 is used as swap");
}

TEST_F(DeviceUsesTest, HoldersAreFound) {
  device.holders = {"dm-0"};
  device.partitions[0].holders = {"md1"};
  EXPECT_EQ(uses(), "held by dm-0; /dev/nbd0p1 is held by md1");
}

TEST_F(DeviceUsesTest, ALoopDeviceIsAHolder) {
  write("sys/block/loop3/loop/backing_file", "/dev/nbd0\n");
  write("sys/block/loop4/loop/backing_file", "/srv/disk.img\n");
  EXPECT_EQ(uses(), "/dev/nbd0 is held by loop3");
}

TEST_F(DeviceUsesTest, OtherDevicesDoNotCount) {
  write("proc/self/mountinfo", "36 22 43:32 / /mnt rw - ext4 /dev/nbd1 rw\n");
  write("proc/swaps", "/dev/nbd00 partition 1020 0 -2\n");
  EXPECT_EQ(uses(), "");
}

TEST_F(DeviceUsesTest, ALongListIsCut) {
  for (int i = 0; i < 7; ++i) device.holders.push_back("dm-" + std::to_string(i));
  EXPECT_EQ(uses(), "held by dm-0; held by dm-1; held by dm-2; held by dm-3; and 3 more");
}

}  // namespace
}  // namespace nbdkit
