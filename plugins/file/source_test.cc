// SPDX-License-Identifier: BSD-3-Clause
// Where files come from: paths, directories and their borders, descriptors, and the parameters.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "support/stack.h"
#include "temporary.h"

namespace nbdkit {
namespace {

std::string refusal(Parameters parameters) {
  auto made = Stack::plugin("file", parameters);
  EXPECT_FALSE(made.ok());
  return made.ok() ? "" : made.error().message();
}

class FileDirectory : public testing::Test {
 protected:
  FileDirectory() {
    folder.file("outside", "secret");
    ::mkdir(inside("").c_str(), 0700);
    folder.file("dir/b", "bb");
    folder.file("dir/a", "a");
    folder.file("dir/.hidden", "h");
    ::mkdir(inside("sub").c_str(), 0700);
    folder.file("dir/sub/deep", "d");
    ::mkfifo(inside("pipe").c_str(), 0600);
    link("a", "link");
    link("sub/deep", "deep");
    link("../outside", "up");
    link(folder.path("outside"), "absolute");
    link("nowhere", "dangling");
    link("loop", "loop");
    link("/proc/self/exe", "magic");
  }
  std::string inside(std::string_view name) { return folder.path("dir/" + std::string(name)); }
  void link(const std::string& to, std::string_view name) {
    ASSERT_EQ(::symlink(to.c_str(), inside(name).c_str()), 0);
  }
  void serve(Parameters parameters) {
    auto made = Stack::plugin("file", parameters);
    ASSERT_TRUE(made.ok()) << made.error().message();
    stack = std::move(made).value();
  }
  std::vector<std::string> exports() {
    TestLoop loop;
    Gate gate(loop);
    Context context(loop, gate, stack->layer().log(), 1);
    auto entries = loop.run(stack->layer().list_exports(context)).value();
    std::vector<std::string> names;
    for (const ExportEntry& entry : entries) names.push_back(entry.name);
    return names;
  }

  Temporary folder;
  std::unique_ptr<Stack> stack;
};

TEST_F(FileDirectory, ListsWhatCanBeServed) {
  serve({{"dir", inside("")}});
  EXPECT_EQ(exports(), (std::vector<std::string>{".hidden", "a", "b", "deep", "link"}));
}

TEST_F(FileDirectory, ServesTheFileThatTheClientNames) {
  serve({{"directory", inside("")}});
  ASSERT_TRUE(stack->open("b").ok());
  EXPECT_EQ(stack->read(0, 2).value(), "bb");
  ASSERT_TRUE(stack->write(0, "B").ok());
  EXPECT_EQ(folder.content("dir/b"), "Bb");
  ASSERT_TRUE(stack->open("link").ok());
  EXPECT_EQ(stack->read(0, 1).value(), "a");
  ASSERT_TRUE(stack->open("deep").ok());
  EXPECT_EQ(stack->read(0, 1).value(), "d");
}

TEST_F(FileDirectory, NothingElseCanBeReached) {
  serve({{"dir", inside("")}});
  for (std::string name :
       {std::string(), std::string("nothing"), std::string("."), std::string(".."),
        std::string("../outside"), std::string("sub/deep"), std::string("./a"), std::string("/a"),
        folder.path("outside"), std::string("up"), std::string("absolute"), std::string("magic"),
        std::string("dangling"), std::string("loop"), std::string("pipe"), std::string("sub"),
        std::string("a\0b", 3), std::string(300, 'n')}) {
    auto opened = stack->open(name);
    ASSERT_FALSE(opened.ok()) << name;
    EXPECT_NE(opened.error().message(), "") << name;
  }
  EXPECT_NE(stack->open("up").error().message().find("leads out of the directory"),
            std::string::npos);
}

TEST_F(FileDirectory, ADirectoryMayBeGivenAsADescriptor) {
  UniqueFd directory(::open(inside("").c_str(), O_RDONLY | O_DIRECTORY));
  serve({{"dirfd", std::to_string(directory.get())}});
  EXPECT_EQ(exports().size(), 5u);
  ASSERT_TRUE(stack->open("b").ok());
  EXPECT_EQ(stack->read(0, 2).value(), "bb");
  EXPECT_FALSE(stack->open("up").ok());
  EXPECT_EQ(::fcntl(directory.get(), F_GETFD), FD_CLOEXEC);
  UniqueFd file(::open(inside("a").c_str(), O_RDONLY));
  auto text = std::to_string(file.get());
  EXPECT_EQ(refusal({{"dirfd", text}}), fmt::format("dirfd={}: is no directory", text));
}

class FileSources : public testing::Test {
 protected:
  void serve_fd(int flags, std::string_view direct = "false", bool read_only = false) {
    fd = UniqueFd(::open(path.c_str(), flags));
    ASSERT_TRUE(fd);
    flags_before = ::fcntl(fd.get(), F_GETFL);
    auto made = Stack::plugin("file", {{"fd", std::to_string(fd.get())}, {"direct", direct}});
    ASSERT_TRUE(made.ok()) << made.error().message();
    stack = std::move(made).value();
    auto opened = stack->open("ignored", read_only);
    ASSERT_TRUE(opened.ok()) << opened.error().message();
  }

  Temporary folder;
  std::string path = folder.file("disk", std::string(65536, 'x'));
  UniqueFd fd;
  int flags_before = 0;
  std::unique_ptr<Stack> stack;
};

TEST_F(FileSources, AnOpenDescriptorIsServed) {
  serve_fd(O_RDWR);
  EXPECT_TRUE(stack->device().properties().can_write);
  ASSERT_TRUE(stack->write(0, "y", RequestFlags::fua).ok());
  ASSERT_TRUE(stack->flush().ok());
  EXPECT_EQ(stack->read(0, 2).value(), "yx");
  stack.reset();
  EXPECT_EQ(::fcntl(fd.get(), F_GETFL), flags_before);  // Still open, and as it was.
  EXPECT_EQ(::fcntl(fd.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(folder.content("disk")[0], 'y');
}

TEST_F(FileSources, ADescriptorForReadingIsServedReadOnly) {
  serve_fd(O_RDONLY);
  EXPECT_FALSE(stack->device().properties().can_write);
  EXPECT_FALSE(stack->device().properties().can_trim);
  EXPECT_EQ(stack->read(0, 1).value(), "x");
  EXPECT_NE(stack->log().find("fd="), std::string::npos);
}

TEST_F(FileSources, DirectAccessLeavesTheDescriptorOfTheGiverAlone) {
  serve_fd(O_RDWR, "true");
  EXPECT_GE(stack->device().properties().block_size.minimum, 512u);
  EXPECT_EQ(stack->read(0, 4096).value(), std::string(4096, 'x'));
  EXPECT_EQ(::fcntl(fd.get(), F_GETFL), flags_before);
}

TEST_F(FileSources, ADirectDescriptorIsServedDirectly) {
  serve_fd(O_RDWR | O_DIRECT);
  EXPECT_GE(stack->device().properties().block_size.minimum, 512u);
  EXPECT_EQ(stack->read(0, 4096).value(), std::string(4096, 'x'));
}

TEST_F(FileSources, BadDescriptorsAreRefused) {
  EXPECT_EQ(refusal({{"fd", "1000"}}), "fd=1000: Bad file descriptor");
  EXPECT_EQ(refusal({{"dirfd", "1000"}}), "dirfd=1000: Bad file descriptor");
  for (std::string_view text : {"2", "-1", "x", "", "99999999999"}) {
    EXPECT_NE(refusal({{"fd", text}}).find(fmt::format("fd={}: ", text)), std::string::npos);
    EXPECT_NE(refusal({{"dirfd", text}}).find(fmt::format("dirfd={}: ", text)), std::string::npos);
  }
  UniqueFd blind(::open(path.c_str(), O_WRONLY));
  EXPECT_NE(refusal({{"fd", std::to_string(blind.get())}}).find("not open for reading"),
            std::string::npos);
  UniqueFd null(::open("/dev/null", O_RDWR));
  EXPECT_NE(refusal({{"fd", std::to_string(null.get())}}).find("neither a regular file"),
            std::string::npos);
}

TEST_F(FileSources, AReadOnlyConnectionDoesNotOpenForWriting) {
  stack = Stack::plugin("file", {{"file", path}}).value();
  ASSERT_TRUE(stack->open("", true).ok());
  const Properties& properties = stack->device().properties();
  EXPECT_FALSE(properties.can_write || properties.can_trim || properties.can_fua);
  EXPECT_EQ(stack->write(0, "y").ok(), false);
  EXPECT_EQ(folder.content("disk")[0], 'x');
}

// In a child without root's right to write anything.
TEST_F(FileSources, WhatMayNotBeWrittenIsServedReadOnly) {
  ASSERT_EQ(::chmod(path.c_str(), 0400), 0);
  pid_t child = ::fork();
  if (child == 0) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct nothing[2]{};
    ::syscall(SYS_capset, &header, nothing);
    auto one = Stack::plugin("file", {{"file", path}}).value();
    bool right = one->open().ok() && !one->device().properties().can_write &&
                 one->read(0, 1).value() == "x" &&
                 one->log().find("served read-only") != std::string::npos;
    one.reset();
    ::_exit(right ? 7 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 7);
}

TEST_F(FileSources, PathsThatCannotBeServedAreRefusedAtTheStart) {
  std::string missing = folder.path("missing");
  EXPECT_EQ(refusal({{"file", missing}}), missing + ": No such file or directory");
  EXPECT_EQ(refusal({{"dir", missing}}), missing + ": No such file or directory");
  EXPECT_EQ(refusal({{"dir", path}}), path + ": Not a directory");
  EXPECT_EQ(refusal({{"file", folder.path()}}),
            fmt::format("{0}: is a directory; dir={0} serves the files in it", folder.path()));
  std::string pipe = folder.path("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(refusal({{"file", pipe}}), pipe + ": is neither a regular file nor a block device");
}

TEST_F(FileSources, AFileThatIsGoneIsAnErrorOfTheConnection) {
  stack = Stack::plugin("file", {{"file", path}}).value();
  ASSERT_EQ(::unlink(path.c_str()), 0);
  EXPECT_EQ(stack->open().error().message(), path + ": open: No such file or directory");
}

TEST_F(FileSources, ExactlyOneSourceIsNeeded) {
  EXPECT_NE(refusal({}).find("Give one of file=PATH, dir=PATH, fd=N and dirfd=N"),
            std::string::npos);
  EXPECT_EQ(refusal({{"file", path}, {"dir", folder.path()}}), "file= and dir= exclude each other");
  EXPECT_EQ(refusal({{"fd", "3"}, {"dirfd", "4"}}), "fd= and dirfd= exclude each other");
}

TEST_F(FileSources, BadValuesAreQuoted) {
  for (std::string_view key : {"fadvise", "cache", "direct", "file", "dir"}) {
    EXPECT_NE(refusal({{key, ""}}).find(fmt::format("{}=: ", key)), std::string::npos) << key;
  }
  for (std::string_view key : {"fadvise", "cache", "direct"}) {
    EXPECT_NE(refusal({{key, "fast"}}).find(fmt::format("{}=fast: ", key)), std::string::npos);
  }
}

TEST_F(FileSources, OldDelaysPointToTheFilter) {
  EXPECT_EQ(refusal({{"file", path}, {"rdelay", "1"}}),
            "rdelay=1: belongs to the delay filter; add --filter=delay");
  EXPECT_NE(refusal({{"wdelay", "1"}}).find("--filter=delay"), std::string::npos);
}

TEST_F(FileSources, TheMagicKeyIsFile) {
  stack = Stack::plugin("file", {{"file", path}}).value();
  EXPECT_EQ(stack->layer().magic_key(), "file");
  EXPECT_NE(stack->layer().dump().find("file_falloc_fl_punch_hole=yes"), std::string::npos);
}

}  // namespace
}  // namespace nbdkit
