// SPDX-License-Identifier: BSD-3-Clause
#include "block/native_module.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

namespace nbdkit {
namespace {

std::string nofilter() {
  return std::string(NBDKIT_TEST_LIBDIR) + "/filters/nbdkit-nofilter-filter.so";
}

struct NativeModuleTest : testing::Test {
  ~NativeModuleTest() override { ::unlink(path.c_str()); }

  // nofilter's file with every `from` made `to`, which is as long.
  void make_changed(const std::string& from, const std::string& to) {
    std::ifstream in(nofilter(), std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(in), {}};
    int times = 0;
    for (std::size_t at = 0; (at = bytes.find(from, at)) != std::string::npos; ++times) {
      bytes.replace(at, from.size(), to);
    }
    ASSERT_GT(times, 0);
    write(bytes);
  }
  void write(const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }
  std::string error() { return error_of(path); }
  std::string error_of(const std::string& module) {
    Result<LoadedModule> loaded = load_native_module(module);
    code = loaded.ok() ? std::errc{} : loaded.error().code;
    return loaded.ok() ? "no error" : loaded.error().message();
  }

  const std::string path = [] {
    char name[] = "/tmp/native_module_test_XXXXXX";
    ::close(::mkstemp(name));
    return std::string(name);
  }();
  std::errc code{};
};

TEST_F(NativeModuleTest, OneOfThisBuildIsLoaded) {
  Result<LoadedModule> loaded = load_native_module(nofilter());
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  EXPECT_STREQ(loaded.value().module->name, "nofilter");
  EXPECT_EQ(loaded.value().module->kind, ModuleKind::filter);
  EXPECT_NE(dynamic_cast<FilterLayer*>(loaded.value().layer.get()), nullptr);
}

// An old filter would let an operation pass that it does not know.
TEST_F(NativeModuleTest, OneOfAnotherBuildIsRefused) {
  std::string id = NBDKIT_BUILD_ID, other = id;
  other.back() = other.back() == '0' ? '1' : '0';
  make_changed(id, other);
  EXPECT_NE(error().find("belongs to another build"), std::string::npos);
  EXPECT_EQ(code, std::errc::invalid_argument);
}

TEST_F(NativeModuleTest, OneWithoutTheMagicIsRefused) {
  std::string magic(sizeof kModuleMagic, '\0');
  std::memcpy(magic.data(), &kModuleMagic, sizeof kModuleMagic);
  make_changed(magic, "xxxxxxxx");
  EXPECT_NE(error().find("belongs to another build"), std::string::npos);
}

TEST_F(NativeModuleTest, ALibraryWithoutADescriptorIsNoModule) {
  std::string library = NBDKIT_TEST_LIBDIR "/libnbdkit-core.so";
  EXPECT_EQ(error_of(library), library + ": not a native module");
  EXPECT_EQ(code, std::errc::not_supported);
}

TEST_F(NativeModuleTest, AFileThatIsNoLibraryIsNoModule) {
  write("not a library");
  (void)error();
  EXPECT_EQ(code, std::errc::not_supported);
  std::string nowhere = "/nonexistent/nbdkit-x-filter.so";
  EXPECT_NE(error_of(nowhere).find(nowhere), std::string::npos);
  EXPECT_EQ(code, std::errc::not_supported);
}

}  // namespace
}  // namespace nbdkit
