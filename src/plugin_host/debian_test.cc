// SPDX-License-Identifier: BSD-3-Clause
// The plugins of the distribution, as they were built for another server.

#include <fstream>

#include "plugin_host/fixture_test.h"

namespace nbdkit {
namespace {

using Debian = HostFixture;

TEST_F(Debian, MemoryKeepsWhatIsWrittenAndTellsWhereItIs) {
  ASSERT_EQ(message_of(start(debian("memory"), {{"size", "64M"}})), "");
  auto client = connect();
  EXPECT_EQ(client->properties().size, 64u << 20);
  EXPECT_TRUE(client->properties().can_write);
  EXPECT_TRUE(client->properties().can_multi_conn);
  EXPECT_TRUE(client->properties().can_extents);
  EXPECT_EQ(message_of(client->write(1 << 20, "hello", RequestFlags::fua)), "");
  EXPECT_EQ(client->read(1 << 20, 5).value(), "hello");
  EXPECT_EQ(client->read((1 << 20) - 2, 9).value(), std::string("\0\0hello\0\0", 9));

  auto extents = client->extents(0, 64 << 20);
  ASSERT_EQ(extents.value().size(), 3u);
  EXPECT_EQ(extents.value()[0].type, ExtentType::hole_and_zero);
  EXPECT_EQ(extents.value()[1].type, ExtentType::data);
  EXPECT_EQ(extents.value()[1].offset, 1u << 20);

  EXPECT_EQ(message_of(client->zero(1 << 20, 3)), "");
  EXPECT_EQ(client->read(1 << 20, 5).value(), std::string("\0\0\0lo", 5));
  EXPECT_EQ(message_of(client->trim(0, 64 << 20)), "");
  EXPECT_EQ(client->extents(0, 64 << 20).value().size(), 1u);
  EXPECT_EQ(message_of(client->flush()), "");
}

TEST_F(Debian, TwoConnectionsSeeTheSameMemory) {
  ASSERT_EQ(message_of(start(debian("memory"), {{"size", "1M"}})), "");
  auto one = connect();
  auto two = connect();
  EXPECT_EQ(message_of(one->write(0, "shared")), "");
  EXPECT_EQ(two->read(0, 6).value(), "shared");
}

TEST_F(Debian, MemoryRefusesABadSizeInItsOwnWords) {
  ASSERT_EQ(message_of(load(debian("memory"))), "");
  Result<void> configured = configure({{"size", "foo"}});
  ASSERT_FALSE(configured.ok());
  EXPECT_NE(configured.error().message().find("'foo'"), std::string::npos)
      << configured.error().message();
  EXPECT_EQ(log.errors(), "");  // Told once, by whoever gets the Error.
}

TEST_F(Debian, FileServesAFile) {
  std::string path = temporary("disk");
  std::ofstream(path) << std::string(1 << 20, 'x');
  ASSERT_EQ(message_of(start(debian("file"), {{"file", path}})), "");
  EXPECT_EQ(plugin->magic_key(), "file");
  EXPECT_EQ(plugin->thread_model(), ThreadModel::parallel);
  auto client = connect();
  EXPECT_EQ(client->properties().size, 1u << 20);
  EXPECT_EQ(message_of(client->write(4096, "written", RequestFlags::fua)), "");
  EXPECT_EQ(client->read(4095, 9).value(), "xwrittenx");
  EXPECT_EQ(message_of(client->zero(0, 8192, RequestFlags::may_trim)), "");
  EXPECT_EQ(client->read(8191, 2).value(), std::string("\0x", 2));
  EXPECT_EQ(message_of(client->flush()), "");
}

TEST_F(Debian, FileWithDirServesTheExportsOfAFolder) {
  std::filesystem::create_directory(folder / "exports");
  std::ofstream(folder / "exports" / "one") << "first";
  std::ofstream(folder / "exports" / "two") << "second";
  ASSERT_EQ(message_of(start(debian("file"), {{"dir", temporary("exports")}})), "");
  EXPECT_EQ(connect("two")->read(0, 6).value(), "second");
  auto client = new_client();
  auto exports = loop.run(plugin->list_exports(client->context()));
  ASSERT_EQ(exports.value().size(), 2u);

  auto missing = new_client("three");
  Result<void> opened = missing->open(*plugin);
  EXPECT_NE(message_of(opened).find("three: No such file"), std::string::npos);
  EXPECT_EQ(log.errors(), "");
}

TEST_F(Debian, SplitOfVersion1JoinsFiles) {
  std::ofstream(temporary("a")) << std::string(512, 'a');
  std::ofstream(temporary("b")) << std::string(512, 'b');
  ASSERT_EQ(
      message_of(start(debian("split"), {{"file", temporary("a")}, {"file", temporary("b")}})), "");
  EXPECT_EQ(plugin->thread_model(), ThreadModel::serialize_requests);
  auto client = connect();
  EXPECT_EQ(client->properties().size, 1024u);
  EXPECT_FALSE(client->properties().can_fua);  // It has no flush.
  // Only in the first file: this version of split writes to the wrong place in all others.
  EXPECT_EQ(message_of(client->write(508, "xyz")), "");
  EXPECT_EQ(message_of(client->zero(0, 100)), "");
  EXPECT_EQ(client->read(507, 7).value(), "axyzabb");
  EXPECT_EQ(client->read(99, 2).value(), std::string("\0a", 2));
}

TEST_F(Debian, InfoAsksWhoItServes) {
  ASSERT_EQ(message_of(start(debian("info"), {{"mode", "exportname"}})), "");
  EXPECT_EQ(connect("what is this")->read(0, 12).value(), "what is this");
}

TEST_F(Debian, EveryPluginOfTheDistributionCanBeLoaded) {
  host = std::make_unique<PluginHost>(log, hooks);
  std::filesystem::path directory = std::filesystem::path(debian("null")).parent_path();
  int loaded = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() != ".so") continue;
    auto one = load_c_plugin(*host, entry.path().string());
    EXPECT_TRUE(one.ok()) << one.error().message();
    ++loaded;
  }
  EXPECT_GE(loaded, 20);
}

}  // namespace
}  // namespace nbdkit
