// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>

#include "support/stack.h"

namespace nbdkit {
namespace {

struct LogTest : testing::Test {
  ~LogTest() override {
    stack.reset();
    std::remove(path.c_str());
  }
  void open(Parameters parameters, std::string export_name = "") {
    auto made = Stack::filter("log", parameters, disk);
    ASSERT_TRUE(made.ok()) << made.error().message();
    stack = std::move(made).value();
    ASSERT_TRUE(stack->open(std::move(export_name)).ok());
  }
  std::string file() const {
    std::ifstream stream(path);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  // The lines without their times, from `from` on; every line must have a time.
  std::string lines(std::size_t from = 0) const {
    std::string text = file(), all;
    const std::regex time(R"(^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} )");
    for (std::size_t at = 0, number = 0; at < text.size(); ++number) {
      std::size_t end = text.find('\n', at);
      std::string line = text.substr(at, end - at);
      EXPECT_TRUE(std::regex_search(line, time)) << line;
      if (number >= from) all += line.substr(27) + "\n";
      at = end + 1;
    }
    return all;
  }

  static std::string temporary_file() {
    char name[] = "/tmp/log_test_XXXXXX";
    int fd = ::mkstemp(name);
    EXPECT_GE(fd, 0);
    ::close(fd);
    return name;
  }

  std::string path = temporary_file();
  ScriptedLayer disk{1 << 20};
  std::unique_ptr<Stack> stack;
};

constexpr std::size_t kBeforeRequests = 3;  // Ready, Fork, Connect

TEST_F(LogTest, TellsTheLifeOfAConnection) {
  disk.properties.block_size = {1, 512, 0xffffffff};
  open({{"logfile", path}}, "it's");
  ASSERT_TRUE(stack->read(0, 512).ok());
  stack.reset();
  EXPECT_EQ(lines(),
            "Ready thread_model=3\n"
            "Fork\n"
            "connection=1 Connect export=\"it's\" tls=0 size=0x100000 minsize=0x1 prefsize=0x200 "
            "maxsize=0xffffffff write=1 flush=1 rotational=0 trim=1 zero=2 fua=2 extents=1 cache=2 "
            "fast_zero=0\n"
            "connection=1 Read id=1 offset=0x0 count=0x200 ...\n"
            "connection=1 ...Read id=1 return=0\n"
            "connection=1 Disconnect transactions=1\n");
}

TEST_F(LogTest, EveryOperationHasItsLines) {
  open({{"logfile", path}});
  disk.extents = {{0, 4096, ExtentType::data}, {4096, 1044480, ExtentType::hole_and_zero}};
  ASSERT_TRUE(stack->write(1024, "x", RequestFlags::fua).ok());
  ASSERT_TRUE(stack->flush().ok());
  ASSERT_TRUE(stack->trim(0, 4096).ok());
  ASSERT_TRUE(stack->zero(0, 4096, RequestFlags::may_trim | RequestFlags::fua).ok());
  ASSERT_TRUE(stack->zero(0, 4096, RequestFlags::fast_zero).ok());
  ASSERT_TRUE(stack->loop().run(stack->device().cache(Request(Offset{0}, 512))).ok());
  ASSERT_TRUE(stack->extents(0, 1 << 20, RequestFlags::none).ok());
  ASSERT_TRUE(stack->extents(512, 512, RequestFlags::one).ok());
  EXPECT_EQ(lines(kBeforeRequests),
            "connection=1 Write id=1 offset=0x400 count=0x1 fua=1 ...\n"
            "connection=1 ...Write id=1 return=0\n"
            "connection=1 Flush id=2 ...\n"
            "connection=1 ...Flush id=2 return=0\n"
            "connection=1 Trim id=3 offset=0x0 count=0x1000 fua=0 ...\n"
            "connection=1 ...Trim id=3 return=0\n"
            "connection=1 Zero id=4 offset=0x0 count=0x1000 trim=1 fua=1 fast=0 ...\n"
            "connection=1 ...Zero id=4 return=0\n"
            "connection=1 Zero id=5 offset=0x0 count=0x1000 trim=0 fua=0 fast=1 ...\n"
            "connection=1 ...Zero id=5 return=0\n"
            "connection=1 Cache id=6 offset=0x0 count=0x200 ...\n"
            "connection=1 ...Cache id=6 return=0\n"
            "connection=1 Extents id=7 offset=0x0 count=0x100000 req_one=0 ...\n"
            "connection=1 ...Extents id=7 extents=(0x0 0x1000 \"\" 0x1000 0xff000 \"hole,zero\") "
            "return=0\n"
            "connection=1 Extents id=8 offset=0x200 count=0x200 req_one=1 ...\n"
            "connection=1 ...Extents id=8 extents=(0x200 0xe00 \"\") return=0\n");
}

TEST_F(LogTest, AFailureIsLoggedAndPassedOn) {
  open({{"logfile", path}});
  disk.fail(Operation::write, {std::errc::no_space_on_device});
  disk.fail(Operation::extents, {std::errc::io_error});
  Result<void> write = stack->write(0, "x");
  ASSERT_FALSE(write.ok());
  EXPECT_EQ(write.error().code, std::errc::no_space_on_device);
  EXPECT_FALSE(stack->extents(0, 512).ok());
  std::string text = lines(kBeforeRequests);
  EXPECT_NE(text.find("...Write id=1 return=-1 error=ENOSPC\n"), std::string::npos) << text;
  EXPECT_NE(text.find("...Extents id=2 return=-1 error=EIO\n"), std::string::npos) << text;
}

// The start of a request is in the file while it is under way, so that one that hangs can be seen.
TEST_F(LogTest, RequestsAtTheSameTimeMix) {
  open({{"logfile", path}});
  disk.set_delay(Seconds(1));
  Reply one(stack->loop().buffers(), 1), two(stack->loop().buffers(), 1);
  Task<void> first = stack->device().pread(Request(Offset{0}, 1), one);
  Task<void> second = stack->device().pread(Request(Offset{1}, 1), two);
  EXPECT_TRUE(stack->loop().run(std::move(first)).ok());
  EXPECT_TRUE(stack->loop().run(std::move(second)).ok());
  EXPECT_EQ(stack->loop().elapsed(), Seconds(1));
  std::string text = lines(kBeforeRequests);
  EXPECT_LT(text.find(" Read id=2"), text.find("...Read id=1"));
  EXPECT_NE(text.find("...Read id=2"), std::string::npos);
}

TEST_F(LogTest, AReadOnlyConnectionWritesNothing) {
  auto made = Stack::filter("log", {{"logfile", path}}, disk);
  stack = std::move(made).value();
  ASSERT_TRUE(stack->open("", true).ok());
  ASSERT_TRUE(stack->read(0, 1).ok());
  EXPECT_NE(lines().find("write=0 flush=1 rotational=0 trim=0 zero=0 fua=0 extents=1"),
            std::string::npos);
}

TEST_F(LogTest, AsksForExportsAndConnectionsAreLogged) {
  open({{"logfile", path}});
  Context& context = stack->context();
  ASSERT_TRUE(stack->loop().run(stack->layer().preconnect(context)).ok());
  ASSERT_TRUE(stack->loop().run(stack->layer().list_exports(context)).ok());
  EXPECT_EQ(lines(kBeforeRequests),
            "Preconnect id=1 readonly=0 ...\n"
            "...Preconnect id=1 return=0\n"
            "ListExports id=1 readonly=0 tls=0 ...\n"
            "...ListExports id=1 exports=(\"\") return=0\n");
}

TEST_F(LogTest, TheFileIsEmptiedUnlessItIsToBeKept) {
  std::ofstream(path) << "before\n";
  open({{"logfile", path}, {"logappend", "true"}});
  EXPECT_EQ(file().substr(0, 7), "before\n");
  open({{"logfile", path}});
  EXPECT_EQ(file().find("before"), std::string::npos);
}

TEST_F(LogTest, WithoutFileAndScriptItTakesNoPart) {
  open({});
  ASSERT_TRUE(stack->read(0, 512).ok());
  EXPECT_EQ(file(), "");
}

TEST_F(LogTest, TheScriptGetsEverythingAsVariables) {
  std::string script =
      "echo \"$connection $type $id $act $offset $count $return $error $export\" >> " + path;
  disk.fail(Operation::read, {std::errc::io_error});
  open({{"logscript", script}}, "$(date) 'x'");
  EXPECT_FALSE(stack->read(512, 1024).ok());
  stack.reset();
  EXPECT_EQ(file(),
            " PRINT  Ready     \n"
            " PRINT  Fork     \n"
            "1 PRINT  Connect     $(date) 'x'\n"
            "1 ENTER 1 Read 0x200 0x400   \n"
            "1 LEAVE 1 Read   -1 EIO \n"
            "1 PRINT  Disconnect     \n");
}

TEST_F(LogTest, AFileThatCannotBeWrittenStopsTheServer) {
  auto made = Stack::filter("log", {{"logfile", "/nonexistent/x"}}, disk);
  ASSERT_FALSE(made.ok());
  EXPECT_NE(made.error().message().find("/nonexistent/x: No such file"), std::string::npos);
  auto empty = Stack::filter("log", {{"logfile", ""}}, disk);
  ASSERT_FALSE(empty.ok());
  EXPECT_NE(empty.error().message().find("logfile="), std::string::npos);
}

TEST_F(LogTest, IsTransparentAndKeepsEveryPromise) {
  open({});
  Contract contract = stack->layer().contract();
  EXPECT_TRUE(contract.transparent);
  EXPECT_EQ(contract.survives, Survives::durable);
  EXPECT_EQ(contract.multi_conn, MultiConn::as_below);
}

}  // namespace
}  // namespace nbdkit
