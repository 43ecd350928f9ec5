// SPDX-License-Identifier: BSD-3-Clause
#include "block/request_ledger.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>

#include "support/socket_pair.h"

namespace nbdkit {
namespace {

constexpr LedgerRequest kWrite{1, 8192, 4096};
constexpr LedgerRequest kRead{0, 0, 512};

struct RequestLedgerTest : testing::Test {
  void make(std::span<const MarkedRequest> marked) {
    Result<UniqueFd> created = RequestLedger::create(marked);
    ASSERT_TRUE(created.ok()) << created.error().message();
    file = std::move(created).value();
    Result<std::unique_ptr<RequestLedger>> opened =
        RequestLedger::open(UniqueFd(::fcntl(file.get(), F_DUPFD_CLOEXEC, 0)));
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    ledger = std::move(opened).value();
  }
  std::vector<LedgerRequest> under_way() { return RequestLedger::read(file.get()).value(); }

  UniqueFd file;
  std::unique_ptr<RequestLedger> ledger;
};

TEST_F(RequestLedgerTest, WhatIsUnderWayIsSeenByWhoeverHasTheFile) {
  make({});
  RequestLedger::Lease one = ledger->lease();
  RequestLedger::Lease other = ledger->lease();
  one.begin(3, kWrite);
  other.begin(3, kRead);
  EXPECT_EQ(under_way(), (std::vector{kWrite, kRead}));
  one.end(3);
  EXPECT_EQ(under_way(), std::vector{kRead});
}

TEST_F(RequestLedgerTest, WhatAConnectionThatWasGivenUpStillWritesIsNotFree) {
  make({});
  SocketPair slow;
  SocketPair fast;
  RequestLedger::Lease first = ledger->lease();
  RequestLedger::Lease second = ledger->lease();
  ASSERT_TRUE(first.enter(slow.ours.get()));
  first.begin(0, kWrite);
  first.begin(1, kRead);
  first.leave();

  // What is under way on a connection that lives is the kernel's business.
  EXPECT_TRUE(second.enter(fast.ours.get()));
  EXPECT_TRUE(second.is_free(kWrite));
  second.leave();

  slow.theirs.reset();
  EXPECT_FALSE(first.enter(slow.ours.get())) << "others have what it has received";
  EXPECT_TRUE(second.enter(fast.ours.get()));
  EXPECT_FALSE(second.is_free({1, 0, 512})) << "it may be about to begin something";
  first.leave();
  EXPECT_FALSE(second.is_free(kWrite));
  EXPECT_FALSE(second.is_free({4, 8192 + 4095, 1}));
  EXPECT_TRUE(second.is_free({1, 8192 + 4096, 4096}));
  EXPECT_TRUE(second.is_free(kRead)) << "reads change nothing";
  first.end(0);
  EXPECT_TRUE(second.is_free(kWrite));
  second.leave();
}

TEST_F(RequestLedgerTest, TheOnlyConnectionBeginsWhatItHasReceived) {
  make({});
  SocketPair sockets;
  RequestLedger::Lease only = ledger->lease();
  sockets.theirs.reset();
  EXPECT_TRUE(only.enter(sockets.ours.get()));
  only.leave();
}

TEST_F(RequestLedgerTest, MarksAreFound) {
  make(std::array<MarkedRequest, 2>{{{kWrite, LedgerMark::refuse}, {kRead, LedgerMark::alone}}});
  EXPECT_EQ(ledger->mark_of(kWrite), LedgerMark::refuse);
  EXPECT_EQ(ledger->mark_of(kRead), LedgerMark::alone);
  EXPECT_EQ(ledger->mark_of({1, 8192, 4097}), std::nullopt);
}

TEST_F(RequestLedgerTest, ThereIsRoomForSoManyConnections) {
  make({});
  std::vector<RequestLedger::Lease> leases;
  for (std::size_t i = 0; i < RequestLedger::kConnectionsMax; ++i) {
    leases.push_back(ledger->lease());
    EXPECT_TRUE(leases.back());
  }
  EXPECT_FALSE(ledger->lease());
  leases.pop_back();
  EXPECT_TRUE(ledger->lease());
}

TEST_F(RequestLedgerTest, NobodyCanMakeItSmaller) {
  make({});
  EXPECT_NE(::ftruncate(file.get(), 0), 0);
}

TEST_F(RequestLedgerTest, AnotherFileIsNone) {
  UniqueFd other(::memfd_create("other", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(other.get(), 1 << 20), 0);
  EXPECT_EQ(RequestLedger::open(std::move(other)).error().message(),
            "the descriptor is not a request ledger");
}

}  // namespace
}  // namespace nbdkit
