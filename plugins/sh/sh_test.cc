// SPDX-License-Identifier: BSD-3-Clause
// The methods, through the plugin as the server loads it.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "support/stack.h"

namespace nbdkit {
namespace {

// The end of the program, as a script asks for it.
class Control final : public ConnectionControl {
 public:
  void disconnect(bool force) override { asked = force ? "force" : "soft"; }
  std::string asked;
};

class Sh : public testing::Test {
 protected:
  Sh() {
    ::signal(SIGPIPE, SIG_IGN);  // as in the server
    folder_ = testing::TempDir() + "sh-test-XXXXXX";
    EXPECT_NE(::mkdtemp(folder_.data()), nullptr);
  }
  ~Sh() override {
    stack_.reset();
    std::filesystem::remove_all(folder_);
  }

  // Sets what a method does, in shell.
  void method(const std::string& name, const std::string& body) { methods_[name] = body; }

  std::string write_script() {
    std::string path = folder_ + "/script";
    std::ofstream file(path);
    file << "#!/bin/sh\necho \"$@\" >>" << folder_ << "/calls\ncase \"$1\" in\n";
    for (const auto& [name, body] : methods_) file << name << ")\n" << body << "\n;;\n";
    file << "*) exit 2 ;;\nesac\n";
    file.close();
    EXPECT_EQ(::chmod(path.c_str(), 0700), 0);
    return path;
  }

  Result<void> load() {
    auto made = Stack::plugin("sh", {{"script", write_script()}});
    if (!made.ok()) return std::move(made).error();
    stack_ = std::move(made).value();
    return {};
  }

  Result<void> start(std::string export_name = "", bool read_only = false) {
    NBDKIT_TRY(load());
    auto opened = stack_->open(std::move(export_name), read_only);
    if (!opened.ok()) return std::move(opened).error();
    return {};
  }

  std::string failure(Result<void> result) {
    EXPECT_FALSE(result.ok());
    return result.ok() ? "" : result.error().message();
  }

  std::string calls() {
    std::ifstream file(folder_ + "/calls");
    return {std::istreambuf_iterator<char>(file), {}};
  }

  const Properties& properties() { return stack_->device().properties(); }

  std::string folder_;
  std::map<std::string, std::string> methods_{{"get_size", "echo 64K"},
                                              {"pread", "head -c $3 /dev/zero | tr '\\0' x"}};
  std::unique_ptr<Stack> stack_;
};

TEST_F(Sh, ASmallScriptIsAReadOnlyDisk) {
  ASSERT_TRUE(start().ok());
  EXPECT_EQ(properties().size, 65536u);
  EXPECT_FALSE(properties().can_write || properties().can_flush || properties().can_extents);
  EXPECT_EQ(stack_->read(100, 5).value(), "xxxxx");
  EXPECT_NE(calls().find("pread  5 100\n"), std::string::npos);
}

TEST_F(Sh, EveryMethodGetsItsArguments) {
  method("open", "echo 'a handle'");
  method("pwrite", "cat >/dev/null");
  for (const char* can : {"can_write", "can_flush", "can_trim", "can_zero", "can_extents"}) {
    method(can, "exit 0");
  }
  method("can_fast_zero", "exit 0");
  method("can_cache", "echo native");
  method("can_fua", "echo native");
  for (const char* done : {"flush", "trim", "zero", "cache"}) method(done, "exit 0");
  method("extents", "echo 0 64K");
  ASSERT_TRUE(start("name").ok());
  EXPECT_NE(calls().find("open false name false\n"), std::string::npos);
  EXPECT_NE(calls().find("get_size a handle\n"), std::string::npos);
  std::filesystem::remove(folder_ + "/calls");
  using enum RequestFlags;
  EXPECT_TRUE(stack_->write(512, "data").ok());
  EXPECT_TRUE(stack_->write(512, "data", fua).ok());
  EXPECT_TRUE(stack_->flush().ok());
  EXPECT_TRUE(stack_->trim(1, 2).ok());
  EXPECT_TRUE(stack_->trim(1, 2, fua).ok());
  EXPECT_TRUE(stack_->zero(3, 4).ok());
  EXPECT_TRUE(stack_->zero(3, 4, fua | may_trim | fast_zero).ok());
  EXPECT_TRUE(stack_->loop().run(stack_->device().cache(Request(Offset{5}, 6))).ok());
  EXPECT_TRUE(stack_->extents(7, 8).ok());
  EXPECT_TRUE(stack_->extents(7, 8, one).ok());
  EXPECT_EQ(calls(),
            "pwrite a handle 4 512 \npwrite a handle 4 512 fua\nflush a handle\n"
            "trim a handle 2 1 \ntrim a handle 2 1 fua\n"
            "zero a handle 4 3 \nzero a handle 4 3 fua,may_trim,fast\n"
            "cache a handle 6 5\nextents a handle 8 7 \nextents a handle 8 7 req_one\n");
  std::filesystem::remove(folder_ + "/calls");
  method("close", "exit 0");
  stack_.reset();
  EXPECT_EQ(calls(), "close a handle\nunload\n");
}

TEST_F(Sh, TheLifeOfThePluginIsToldInOrder) {
  for (const char* done : {"load", "config_complete", "get_ready", "after_fork", "unload"}) {
    method(done, "exit 0");
  }
  ASSERT_TRUE(load().ok());
  stack_.reset();
  EXPECT_EQ(calls(),
            "load\nmagic_config_key\nconfig_complete\nthread_model\nget_ready\nafter_fork\n"
            "unload\n");
}

TEST_F(Sh, WhatAScriptCannotDoAtTheStartIsTheLastWord) {
  for (const char* step : {"load", "config_complete", "thread_model", "get_ready", "after_fork"}) {
    auto kept = methods_;
    method(step, "echo that went wrong >&2; exit 1");
    EXPECT_NE(failure(load()).find("/script: that went wrong"), std::string::npos) << step;
    method(step, "exit 3");
    EXPECT_NE(failure(load()).find("unexpected code (3/false)"), std::string::npos) << step;
    methods_ = kept;
  }
}

TEST_F(Sh, ParametersGoToTheScript) {
  method("config", "echo $3 >$tmpdir/$2");
  method("magic_config_key", "echo size");
  method("get_size", "cat $tmpdir/size");
  std::string path = write_script();
  auto made = Stack::plugin("sh", {{"script", path}, {"other", "x y"}, {"script", "2M"}});
  ASSERT_TRUE(made.ok()) << made.error().message();
  stack_ = std::move(made).value();
  ASSERT_TRUE(stack_->open().ok());
  EXPECT_EQ(properties().size, 2u << 20);
  EXPECT_NE(calls().find("config other x y\n"), std::string::npos);
}

TEST_F(Sh, ParametersThatTheScriptDoesNotTakeAreRefused) {
  std::string path = write_script();
  auto message = [](auto made) { return made.ok() ? "" : made.error().message(); };
  EXPECT_NE(message(Stack::plugin("sh", {{"script", path}, {"a", "b"}})).find("does not need"),
            std::string::npos);
  EXPECT_NE(message(Stack::plugin("sh", {{"script", path}, {"script", "b"}})).find("magic"),
            std::string::npos);
  EXPECT_NE(message(Stack::plugin("sh", {{"a", "b"}})).find("first parameter"), std::string::npos);
  EXPECT_NE(message(Stack::plugin("sh", {})).find("script= is missing"), std::string::npos);
  EXPECT_NE(message(Stack::plugin("sh", {{"script", "/none/such"}})).find("/none/such"),
            std::string::npos);
}

TEST_F(Sh, ErrorsHaveTheScriptsNumberAndWords) {
  method("pread", "echo ENOSPC no room at all >&2; echo and more >&2; exit 1");
  ASSERT_TRUE(start().ok());
  auto read = stack_->read(0, 1);
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().code, std::errc::no_space_on_device);
  EXPECT_TRUE(read.error().message().ends_with("/script: no room at all"))
      << read.error().message();
}

TEST_F(Sh, HalfAnAnswerOrTooMuchIsAnError) {
  for (const char* body : {"printf 123", "printf 12345", "cat /dev/zero", "kill -9 $$", "exit 2",
                           "exit 3", "printf 1234; exit 1"}) {
    method("pread", body);
    ASSERT_TRUE(start().ok());
    auto read = stack_->read(0, 4);
    ASSERT_FALSE(read.ok()) << body;
    EXPECT_EQ(read.error().code, std::errc::io_error) << body;
  }
}

TEST_F(Sh, DataThatTheScriptDoesNotReadIsNotWritten) {
  method("can_write", "exit 0");
  method("pwrite", "head -c 1 >/dev/null");
  ASSERT_TRUE(start().ok());
  auto written = stack_->write(0, std::string(1 << 16, 'x') + "more than a pipe holds");
  EXPECT_NE(failure(std::move(written)).find("without reading all"), std::string::npos);
  // Not reading all is the script's right when it says why.
  method("pwrite", "echo ENOSPC full >&2; exit 1");
  ASSERT_TRUE(start().ok());
  written = stack_->write(0, std::string(1 << 17, 'x'));
  ASSERT_FALSE(written.ok());
  EXPECT_EQ(written.error().code, std::errc::no_space_on_device);
}

TEST_F(Sh, WithoutZeroTheScriptIsGivenZeroes) {
  method("can_write", "exit 0");
  method("can_zero", "exit 0");
  method("can_fast_zero", "exit 0");
  method("zero", "echo ENOTSUP >&2; exit 1");
  method("pwrite", "cat | od -An -v -tu1 | tr -d ' \\n' >$tmpdir/data");
  method("pread", "head -c $3 $tmpdir/data");
  ASSERT_TRUE(start().ok());
  EXPECT_TRUE(stack_->zero(0, 6).ok());
  EXPECT_EQ(stack_->read(0, 6).value(), "000000");
  auto fast = stack_->zero(0, 6, RequestFlags::fast_zero);
  ASSERT_FALSE(fast.ok());
  EXPECT_EQ(fast.error().code, std::errc::not_supported);
}

TEST_F(Sh, FuaIsAFlushWhenTheScriptSaysEmulate) {
  method("can_write", "exit 0");
  method("can_flush", "exit 0");
  method("pwrite", "cat >/dev/null");
  method("flush", "exit 0");
  for (const char* fua : {"exit 2", "echo emulate"}) {
    method("can_fua", fua);
    ASSERT_TRUE(start().ok());
    std::filesystem::remove(folder_ + "/calls");
    EXPECT_TRUE(stack_->write(0, "x", RequestFlags::fua).ok());
    EXPECT_EQ(calls(), "pwrite  1 0 \nflush \n");
  }
}

TEST_F(Sh, CacheIsAReadWhenTheScriptSaysEmulate) {
  method("can_cache", "echo emulate");
  ASSERT_TRUE(start().ok());
  std::filesystem::remove(folder_ + "/calls");
  EXPECT_TRUE(stack_->loop().run(stack_->device().cache(Request(Offset{5}, 6))).ok());
  EXPECT_EQ(calls(), "pread  6 5\n");
}

TEST_F(Sh, AFailedOpeningIsClosedAgain) {
  method("open", "echo one");
  method("close", "exit 0");
  method("can_write", "echo ENOMEM too little >&2; exit 1");
  EXPECT_NE(failure(start()).find("too little"), std::string::npos);
  EXPECT_TRUE(calls().ends_with("close one\n"));
}

// 4, 5: the program ends. 6: the connection is cut. 7, 8: it ends in good order.
TEST_F(Sh, TheExitStatusCanEndTheProgramOrTheConnection) {
  struct Case {
    int status;
    bool ok;
    int shut_downs;
    std::string disconnect;
  };
  for (const Case& one : {Case{4, true, 1, ""}, Case{5, false, 1, ""}, Case{6, false, 0, "force"},
                          Case{7, true, 0, "soft"}, Case{8, false, 0, "soft"},
                          Case{9, false, 0, ""}, Case{127, false, 0, ""}}) {
    method("pread", fmt::format("printf x; echo ENOSPC why >&2; exit {}", one.status));
    ASSERT_TRUE(load().ok());
    Control control;
    Gate gate(stack_->loop());
    Context context(stack_->loop(), gate, stack_->layer().log(), 1);
    context.control = &control;
    DevicePtr device = std::move(stack_->loop().run(stack_->layer().open(context))).value();
    Reply reply(stack_->loop().buffers(), 1);
    auto read = stack_->loop().run(device->pread(Request(Offset{0}, 1), reply));
    EXPECT_EQ(read.ok(), one.ok) << one.status;
    if (!read.ok()) {
      EXPECT_EQ(read.error().code, std::errc::no_space_on_device) << one.status;
    }
    EXPECT_EQ(stack_->times_shut_down(), one.shut_downs) << one.status;
    EXPECT_EQ(control.asked, one.disconnect) << one.status;
    EXPECT_TRUE(stack_->loop().run(device->close()).ok());
  }
}

// Two calls that see each other, or one of them does after a while.
TEST_F(Sh, TheThreadModelIsTheScripts) {
  struct Case {
    const char* model;
    ThreadModel means;
    bool meet;
  };
  method("pread",
         "mkdir $tmpdir/$4; n=0; until [ -d $tmpdir/$((1 - $4)) ] || [ $n = 20 ]; do\n"
         "sleep 0.05; n=$((n + 1)); done; [ $n = 20 ] && { rmdir $tmpdir/$4; printf .; exit; }\n"
         "printf x");
  for (const Case& one :
       {Case{"parallel", ThreadModel::parallel, true},
        Case{"serialize_requests", ThreadModel::serialize_requests, false},
        Case{"serialize_all_requests", ThreadModel::serialize_all_requests, false},
        Case{"nonsense", ThreadModel::serialize_all_requests, false}}) {
    method("thread_model", fmt::format("echo {}", one.model));
    ASSERT_TRUE(start().ok());
    EXPECT_EQ(stack_->layer().thread_model(), one.means);
    Reply first(stack_->loop().buffers(), 1), second(stack_->loop().buffers(), 1);
    Task<void> reading = stack_->device().pread(Request(Offset{0}, 1), first);
    ASSERT_TRUE(stack_->loop().run(stack_->device().pread(Request(Offset{1}, 1), second)).ok());
    ASSERT_TRUE(stack_->loop().run(std::move(reading)).ok());
    EXPECT_EQ(static_cast<char>(first.pieces()[0].data[0]), one.meet ? 'x' : '.') << one.model;
  }
}

TEST_F(Sh, TraceTellsOfTheCalls) {
  ASSERT_TRUE(start().ok());
  EXPECT_NE(stack_->log().find("calling: " + folder_ + "/script get_size"), std::string::npos);
  EXPECT_NE(stack_->log().find("status 2: " + folder_ + "/script can_write"), std::string::npos);
}

}  // namespace
}  // namespace nbdkit
