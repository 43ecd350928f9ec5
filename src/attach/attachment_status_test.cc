// SPDX-License-Identifier: BSD-3-Clause
#include "attach/attachment_status.h"

#include <gtest/gtest.h>

namespace nbdkit {
namespace {

AttachmentStatus example() {
  AttachmentStatus status;
  status.device.index = 3;
  status.device.size = 256 << 20;
  status.device.block_size = 512;
  status.device.partitions = {{"nbd3p1", 0, 0, {}}};
  status.state = DeviceState::degraded;
  status.reason = "1 of 2 connections is dead";
  status.pid = 10;
  status.server_pid = 11;
  status.connections = 2;
  status.connections_dead = 1;
  status.plugin = "memory";
  status.name = "scratch";
  status.filters = {"log", "delay"};
  status.survives = "durable";
  status.dead_timeout_s = 60;
  return status;
}

TEST(AttachmentStatusTest, JsonHasTheKeysOfThePage) {
  Json json = to_json(example());
  for (std::string_view key : {"device", "pid", "server_pid", "size", "readonly", "connections",
                               "plugin", "filters", "state", "reason", "partitions", "timeouts"}) {
    EXPECT_NE(json.find(key), nullptr) << key;
  }
  EXPECT_EQ(*json.find("device")->as_string(), "/dev/nbd3");
  EXPECT_EQ(*json.find("state")->as_string(), "degraded");
}

TEST(AttachmentStatusTest, WhatAKeeperSaysIsReadBack) {
  AttachmentStatus before = example();
  Result<AttachmentStatus> after = parse_attachment(to_json(before), before.device);
  ASSERT_TRUE(after.ok());
  EXPECT_EQ(to_json(after.value()), to_json(before));
}

TEST(AttachmentStatusTest, NonsenseIsNotBelieved) {
  EXPECT_FALSE(parse_attachment(Json(), {}).ok());
  EXPECT_FALSE(parse_attachment(Json::object().set("state", "perfect"), {}).ok());
  Json odd = Json::object();
  odd.set("state", "failed")
      .set("pid", "ten")
      .set("filters", Json::array().push(1))
      .set("size", -5);
  Result<AttachmentStatus> status = parse_attachment(odd, {});
  ASSERT_TRUE(status.ok());
  EXPECT_FALSE(status.value().managed());
  EXPECT_TRUE(status.value().filters.empty());
}

TEST(AttachmentStatusTest, WhatNobodyKnowsIsNull) {
  AttachmentStatus status;
  EXPECT_TRUE(to_json(status).find("server_pid")->is_null());
  EXPECT_TRUE(to_json(status).find("plugin")->is_null());
  EXPECT_EQ(to_json(status).find("managed")->as_bool(), false);
}

TEST(AttachmentStatusTest, PeopleReadSizesInUnits) {
  EXPECT_NE(describe(example()).find("256M"), std::string::npos) << describe(example());
  EXPECT_NE(describe_list({example()}).find("log,delay"), std::string::npos);
}

TEST(DeviceStateTest, DataThatIsGoneNeverComesBack) {
  EXPECT_EQ(state_after_server_end(Survives::nothing, false), DeviceState::lost);
  EXPECT_EQ(state_after_server_end(Survives::nothing, true), DeviceState::waiting);
  EXPECT_EQ(state_after_server_end(Survives::flushed, false), DeviceState::lost);
  EXPECT_EQ(state_after_server_end(Survives::durable, false), DeviceState::waiting);
  for (DeviceState to : {DeviceState::connected, DeviceState::degraded, DeviceState::waiting}) {
    EXPECT_FALSE(may_follow(DeviceState::lost, to));
  }
  EXPECT_TRUE(may_follow(DeviceState::lost, DeviceState::detaching));
  EXPECT_TRUE(may_follow(DeviceState::failed, DeviceState::waiting));
  EXPECT_FALSE(may_follow(DeviceState::connected, DeviceState::unmanaged));
}

}  // namespace
}  // namespace nbdkit
