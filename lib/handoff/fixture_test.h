// SPDX-License-Identifier: BSD-3-Clause
// A handle whose server is the test. Answers may be sent ahead: the first request has sequence 1.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nbdkit-handoff.h"
#include "support/handoff_peer.h"
#include "support/open_files.h"

extern "C" {
#include "answers.h"
#include "json_reader.h"
#include "json_writer.h"
}

namespace nbdkit {

constexpr std::string_view kExportBody =
    R"({"size":1048576,"transmission_flags":365,"block_size":{"minimum":1,"preferred":4096,)"
    R"("maximum":4294967295},"maximum_payload":67108864,"multi_conn":true,"identity":"disk-7",)"
    R"("description":"a d\u00edsk","survives":"flushed","shared_open":false,"swap_fit":true})";
constexpr std::string_view kTakenBody =
    R"({"id":5,"export":"a","peer":"kernel","size":4096,"flags":365, "state": )"
    R"({"structured_replies":true,"extended_headers":false,"contexts":{"base:allocation":1}, )"
    R"("block_size":{"minimum":512,"preferred":4096,"maximum":65536},"unread":"25609513"} })";

template <auto release>
struct Releaser {
  template <typename T>
  void operator()(T* pointer) const {
    release(pointer);
  }
};
using Handle = std::unique_ptr<nbdkit_handoff, Releaser<nbdkit_handoff_free>>;
using Export = std::unique_ptr<nbdkit_handoff_export, Releaser<nbdkit_handoff_export_free>>;
using Served = std::unique_ptr<nbdkit_handoff_served, Releaser<nbdkit_handoff_served_free>>;
using Connections =
    std::unique_ptr<nbdkit_handoff_connections, Releaser<nbdkit_handoff_connections_free>>;
using Taken = std::unique_ptr<nbdkit_handoff_taken, Releaser<nbdkit_handoff_taken_free>>;
using Event = std::unique_ptr<nbdkit_handoff_event, Releaser<nbdkit_handoff_event_free>>;

class HandoffLibraryTest : public testing::Test {
 protected:
  static constexpr std::uint16_t kAnswer = 2, kError = 3, kEvent = 4;

  HandoffLibraryTest() {
    HandoffSockets sockets;
    handle.reset(nbdkit_handoff_adopt(sockets.theirs.release()));
    peer.emplace(std::move(sockets.ours));
  }

  void say(std::uint16_t kind, std::uint64_t sequence, std::string_view body, int descriptor = -1) {
    HandoffPeer::Header header;
    header.kind = kind;
    header.sequence = sequence;
    header.flags = descriptor >= 0 ? 1 : 0;
    std::vector<int> descriptors;
    if (descriptor >= 0) descriptors.push_back(descriptor);
    ASSERT_TRUE(peer->send(header, body, descriptors));
  }
  // At its deadline a call looks once more, and what went wrong before would not be noticed.
  static constexpr int kLongerThanTheTest = 600'000;
  Export query(int timeout_ms = kLongerThanTheTest) {
    return Export(
        nbdkit_handoff_query(handle.get(), nullptr, NBDKIT_HANDOFF_PEER_CLIENT, timeout_ms));
  }
  // The last call has failed like this.
  static void expect_error(nbdkit_handoff_code code, std::string_view words) {
    EXPECT_STREQ(nbdkit_handoff_code_name(nbdkit_handoff_error_code()),
                 nbdkit_handoff_code_name(code));
    EXPECT_NE(std::string_view(nbdkit_handoff_error()).find(words), std::string_view::npos)
        << nbdkit_handoff_error();
  }

  Handle handle;
  std::optional<HandoffPeer> peer;
};

}  // namespace nbdkit
