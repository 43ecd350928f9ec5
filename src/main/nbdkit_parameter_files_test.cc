// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_parameter_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace nbdkit {
namespace {

using Parameters = std::vector<std::string>;

struct ParameterFiles : testing::Test {
  ParameterFiles() { EXPECT_NE(::mkdtemp(folder.data()), nullptr); }
  ~ParameterFiles() override { std::filesystem::remove_all(folder); }

  std::string file(const std::string& name, const std::string& text) const {
    std::ofstream(folder + "/" + name) << text;
    return "@" + folder + "/" + name;
  }
  static std::string error(Parameters parameters) {
    auto expanded = expand_parameter_files(std::move(parameters));
    return expanded.ok() ? "no error" : expanded.error().message();
  }

  std::string folder = "/tmp/nbdkit-parameters-XXXXXX";
};

TEST_F(ParameterFiles, EveryLineIsAParameter) {
  std::string one = file("one", "# a comment\n\nkey=value with = and blanks \n#x\nbare\nlast=1");
  EXPECT_EQ(expand_parameter_files({"first=1", one, "end"}).value(),
            (Parameters{"first=1", "key=value with = and blanks ", "bare", "last=1", "end"}));
}

TEST_F(ParameterFiles, AFileMayNameOthersBesideIt) {
  std::filesystem::create_directory(folder + "/sub");
  std::string one = file("one", "@sub/two\nc=3\n");
  file("sub/two", "a=1\n@./three\n");
  file("sub/three", "b=2\n");
  EXPECT_EQ(expand_parameter_files({one}).value(), (Parameters{"a=1", "b=2", "c=3"}));
}

TEST_F(ParameterFiles, WithoutASlashItIsNoFile) {
  EXPECT_EQ(expand_parameter_files({"@home", "a@/b"}).value(), (Parameters{"@home", "a@/b"}));
}

TEST_F(ParameterFiles, WhatCannotBeReadIsNamed) {
  EXPECT_EQ(error({"@/no/such/file"}), "@/no/such/file: No such file or directory");
  EXPECT_NE(error({"@" + folder + "/"}).find("Is a directory"), std::string::npos);
  EXPECT_NE(error({file("self", "@./self\n")}).find("more than 16 files"), std::string::npos);
  EXPECT_NE(error({file("big", std::string(2 << 20, 'x'))}).find("at most 1048576"),
            std::string::npos);
}

}  // namespace
}  // namespace nbdkit
