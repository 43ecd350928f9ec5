// SPDX-License-Identifier: BSD-3-Clause
// One socket and several threads, servers that break the protocol, time that runs out.
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <fstream>
#include <thread>

#include "fixture_test.h"

namespace nbdkit {
namespace {

// A thread of which it can be known that it waits.
class Waiter {
 public:
  template <typename Function>
  explicit Waiter(Function function)
      : thread_([this, function] {
          task_ = ::gettid();
          function();
        }) {}

  // Until it sleeps in the kernel, as the library's calls do that have nothing to do.
  void until_asleep() {
    std::string state;
    while (state != "S") {
      ::sched_yield();
      std::ifstream stat("/proc/self/task/" + std::to_string(task_) + "/stat");
      std::string number, name;
      stat >> number >> name >> state;
    }
  }
  void join() { thread_.join(); }
  pthread_t native_handle() { return thread_.native_handle(); }

 private:
  std::atomic<pid_t> task_ = 0;
  std::thread thread_;
};

class HandleTest : public HandoffLibraryTest {
 protected:
  // The handle is of no use any more, and says why as often as it is asked.
  void expect_end(nbdkit_handoff_code code, std::string_view words) {
    EXPECT_EQ(query(), nullptr);
    expect_error(code, words);
    EXPECT_EQ(query(), nullptr);
    expect_error(code, words);
  }
  // Until the socket takes no more. The number of requests that wait in it.
  std::uint64_t fill() {
    for (std::uint64_t sent = 0;; ++sent) {
      EXPECT_EQ(query(0), nullptr);
      if (std::string_view(nbdkit_handoff_error()).find("nothing was asked") !=
          std::string_view::npos) {
        return sent;
      }
      expect_error(NBDKIT_HANDOFF_E_NO_ANSWER, "did not answer");
    }
  }
  std::string named(std::string_view name) {
    std::string body(kExportBody);
    body.replace(body.find("disk-7"), 6, name);
    return body;
  }
  void subscribe() {
    say(kAnswer, 1, "{}");
    ASSERT_EQ(nbdkit_handoff_subscribe(handle.get(), -1), 0);
    peer->receive();
  }
};

TEST_F(HandleTest, TheHeaderIsOnTheWireAsThePageSays) {
  EXPECT_EQ(query(0), nullptr);
  std::string bytes(100, '\0');
  bytes.resize(static_cast<std::size_t>(::recv(peer->fd(), bytes.data(), bytes.size(), 0)));
  EXPECT_EQ(bytes, std::string("NBDH\0\1\0\1\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\1", 24) +
                       R"({"verb":"query"})");
}

// Several threads, answers in another order than the questions.
TEST_F(HandleTest, EachThreadGetsTheAnswerToItsOwnQuestion) {
  constexpr int kThreads = 8, kCalls = 200;
  std::thread server([this] {
    std::vector<HandoffPeer::Message> waiting;
    for (int left = kThreads * kCalls; left > 0 || !waiting.empty();) {
      char byte;
      bool more = left > 0 &&
                  (waiting.empty() || ::recv(peer->fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0);
      if (more) {
        waiting.push_back(peer->receive());
        --left;
        if (waiting.size() < kThreads / 2) continue;
      }
      for (; !waiting.empty(); waiting.pop_back()) {
        const HandoffPeer::Message& request = waiting.back();
        std::size_t at = request.body.find("export-");
        std::string name = request.body.substr(at, request.body.find('"', at) - at);
        say(kAnswer, request.sequence, named(name));
      }
    }
  });
  std::atomic<int> right = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([this, i, &right] {
      for (int call = 0; call < kCalls; ++call) {
        std::string name = "export-" + std::to_string(i) + "-" + std::to_string(call);
        Export info(nbdkit_handoff_query(handle.get(), name.c_str(), NBDKIT_HANDOFF_PEER_CLIENT,
                                         kLongerThanTheTest));
        if (info != nullptr && info->identity == name) ++right;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  server.join();
  EXPECT_EQ(right, kThreads * kCalls);
}

// The first one waits at the socket for both, and leaves before the other has its answer.
TEST_F(HandleTest, AnotherThreadTakesTheSocketOver) {
  Waiter first([this] { EXPECT_NE(query(), nullptr) << nbdkit_handoff_error(); });
  EXPECT_EQ(peer->receive().sequence, 1u);
  first.until_asleep();
  Waiter second([this] { EXPECT_NE(query(), nullptr) << nbdkit_handoff_error(); });
  EXPECT_EQ(peer->receive().sequence, 2u);
  second.until_asleep();
  say(kAnswer, 1, kExportBody);
  first.join();
  say(kAnswer, 2, kExportBody);
  second.join();
}

TEST_F(HandleTest, ErrorsBelongToTheThreadThatMadeTheCall) {
  say(kError, 1, R"({"code":"limit","message":"mine"})");
  EXPECT_EQ(query(), nullptr);
  std::thread other([this] {
    EXPECT_EQ(nbdkit_handoff_error_code(), NBDKIT_HANDOFF_OK);
    EXPECT_STREQ(nbdkit_handoff_error(), "");
    say(kError, 2, R"({"code":"failed","message":"theirs"})");
    EXPECT_EQ(query(), nullptr);
    expect_error(NBDKIT_HANDOFF_E_FAILED, "theirs");
  });
  other.join();
  expect_error(NBDKIT_HANDOFF_E_LIMIT, "mine");
}

TEST_F(HandleTest, AnAnswerThatIsTooLateIsDropped) {
  EXPECT_EQ(query(0), nullptr);
  expect_error(NBDKIT_HANDOFF_E_NO_ANSWER, "did not answer in time");
  say(kAnswer, 1, named("late"));
  say(kAnswer, 2, named("right"));
  Export info = query();
  ASSERT_NE(info, nullptr) << nbdkit_handoff_error();
  EXPECT_STREQ(info->identity, "right");
}

TEST_F(HandleTest, TheFirstAnswerCounts) {
  say(kAnswer, 1, named("first"));
  say(kAnswer, 1, named("second"));
  say(kError, 1, R"({"code":"failed","message":"after all"})");
  HandoffPeer::Header header;
  header.version = 2;
  ASSERT_TRUE(peer->send(header, ""));
  Export info = query();
  ASSERT_NE(info, nullptr) << nbdkit_handoff_error();
  EXPECT_STREQ(info->identity, "first");
}

TEST_F(HandleTest, ASocketThatComesTooLateIsClosed) {
  std::size_t before = open_files();
  EXPECT_EQ(nbdkit_handoff_take_over(handle.get(), 5, 0), nullptr);
  expect_error(NBDKIT_HANDOFF_E_NO_ANSWER, "");
  HandoffSockets sockets;
  say(kAnswer, 1, kTakenBody, sockets.ours.get());
  say(kAnswer, 2, kExportBody);
  EXPECT_NE(query(), nullptr);
  sockets.ours.reset();
  sockets.theirs.reset();
  EXPECT_TRUE(open_files_return_to(before));
}

TEST_F(HandleTest, WhatTheSocketDoesNotTakeIsSentLater) {
  std::uint64_t waiting = fill();
  ASSERT_GT(waiting, 0u);
  Waiter caller([this] { EXPECT_NE(query(), nullptr) << nbdkit_handoff_error(); });
  caller.until_asleep();
  for (std::uint64_t i = 1; i <= waiting; ++i) EXPECT_EQ(peer->receive().sequence, i);
  // The one that was not asked has a number as well.
  EXPECT_EQ(peer->receive().sequence, waiting + 2);
  say(kAnswer, waiting + 2, kExportBody);
  caller.join();
}

// The thread at the socket waits for an answer only, until another one has something to send.
TEST_F(HandleTest, AThreadThatWaitsSendsForTheOthers) {
  Waiter first([this] { EXPECT_NE(query(), nullptr) << nbdkit_handoff_error(); });
  EXPECT_EQ(peer->receive().sequence, 1u);
  first.until_asleep();
  std::uint64_t waiting = fill();
  Waiter second([this] { EXPECT_NE(query(), nullptr) << nbdkit_handoff_error(); });
  second.until_asleep();
  for (std::uint64_t i = 0; i < waiting; ++i) peer->receive();
  std::uint64_t sequence = peer->receive().sequence;
  EXPECT_EQ(sequence, waiting + 3);
  say(kAnswer, sequence, kExportBody);
  second.join();
  say(kAnswer, 1, kExportBody);
  first.join();
}

TEST_F(HandleTest, SignalsDoNotEndACall) {
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = [](int) {};  // Without SA_RESTART.
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  Waiter caller([this] { EXPECT_NE(query(), nullptr) << nbdkit_handoff_error(); });
  peer->receive();
  for (int i = 0; i < 1000; ++i) ::pthread_kill(caller.native_handle(), SIGUSR1);
  say(kAnswer, 1, kExportBody);
  caller.join();
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST_F(HandleTest, AServerThatHasGoneEndsTheHandle) {
  peer->close();
  expect_end(NBDKIT_HANDOFF_E_DISCONNECTED, "closed the control socket");
}

TEST_F(HandleTest, AServerThatGoesEndsEveryCall) {
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([this] {
      EXPECT_EQ(query(), nullptr);
      expect_error(NBDKIT_HANDOFF_E_DISCONNECTED, "closed");
    });
    peer->receive();
  }
  peer->close();
  for (std::thread& caller : callers) caller.join();
}

TEST_F(HandleTest, WhatAServerSaysLastIsHeard) {
  say(kError, 0, R"({"code":"forbidden","message":"user 7 may not"})");
  peer->close();
  expect_end(NBDKIT_HANDOFF_E_FORBIDDEN, "user 7 may not");
}

// The server hangs up with requests unread. The kernel reports that before the last words, once: to
// who sends next, or to who receives.
TEST_F(HandleTest, WhatAServerSaysLastIsHeardInSpiteOfAReset) {
  EXPECT_EQ(query(0), nullptr);
  say(kError, 0, R"({"code":"forbidden","message":"user 7 may not"})");
  peer->close();
  expect_end(NBDKIT_HANDOFF_E_FORBIDDEN, "user 7 may not");
}

TEST_F(HandleTest, WhatAServerSaysLastIsHeardByWhoWaits) {
  std::thread caller([this] { expect_end(NBDKIT_HANDOFF_E_FORBIDDEN, "user 7 may not"); });
  char byte;
  EXPECT_EQ(::recv(peer->fd(), &byte, 1, MSG_PEEK), 1);
  say(kError, 0, R"({"code":"forbidden","message":"user 7 may not"})");
  peer->close();
  caller.join();
}

TEST_F(HandleTest, AnotherVersionIsSaidInTheAnswer) {
  HandoffPeer::Header header;
  header.version = 2;
  header.kind = 77;
  header.length_off_by = 5;
  ASSERT_TRUE(peer->send(header, "?"));
  EXPECT_EQ(query(), nullptr);
  expect_error(NBDKIT_HANDOFF_E_UNSUPPORTED_VERSION, "version 2");
  header.sequence = 0;
  ASSERT_TRUE(peer->send(header, ""));
  expect_end(NBDKIT_HANDOFF_E_UNSUPPORTED_VERSION, "version 2");
}

TEST_F(HandleTest, WhatBreaksTheProtocolEndsTheHandle) {
  struct Case {
    HandoffPeer::Header header;
    int descriptors = 0;
    std::string_view words;
  };
  auto answer = [](std::uint64_t sequence, std::uint32_t flags = 0) {
    HandoffPeer::Header header;
    header.kind = kAnswer;
    header.sequence = sequence;
    header.flags = flags;
    return header;
  };
  std::vector<Case> cases = {
      {answer(1, 2), 0, "unknown flags"},    {answer(1, 1), 0, "none came"},
      {answer(1, 0), 1, "not announced"},    {answer(1, 1), 2, "not announced"},
      {answer(1, 1), 1, "nobody asked for"}, {answer(2), 0, "was not asked"},
      {answer(0), 0, "was not asked"}};
  cases.push_back({answer(1), 0, "magic"});
  cases.back().header.magic = 7;
  for (int off_by : {1, -1}) {
    cases.push_back({answer(1), 0, "length"});
    cases.back().header.length_off_by = off_by;
  }
  for (std::uint16_t kind : {0, 1, 5, 0xffff}) {
    cases.push_back({answer(1), 0, "no answer and no event"});
    cases.back().header.kind = kind;
  }
  cases.push_back({answer(1, 1), 1, "stray"});
  cases.back().header.kind = kError;
  cases.push_back({answer(1), 0, "has a sequence"});
  cases.back().header.kind = kEvent;
  UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  std::size_t before = open_files();
  for (const Case& c : cases) {
    HandoffSockets sockets;
    handle.reset(nbdkit_handoff_adopt(sockets.theirs.release()));
    peer.emplace(std::move(sockets.ours));
    std::vector<int> descriptors(static_cast<std::size_t>(c.descriptors), null.get());
    ASSERT_TRUE(peer->send(c.header, kExportBody, descriptors));
    expect_end(NBDKIT_HANDOFF_E_PROTOCOL, c.words);
  }
  EXPECT_TRUE(open_files_return_to(before));
}

TEST_F(HandleTest, MessagesOfEverySizeAreLookedAt) {
  for (std::size_t size : {1, 23, 65537, 100'000}) {
    HandoffSockets sockets;
    handle.reset(nbdkit_handoff_adopt(sockets.theirs.release()));
    peer.emplace(std::move(sockets.ours));
    ASSERT_TRUE(peer->send(std::string(size, 'N')));
    expect_end(NBDKIT_HANDOFF_E_PROTOCOL, size < 100 ? "too short" : "too long");
  }
}

TEST_F(HandleTest, AnAnswerThatIsNotUnderstoodFailsItsCallOnly) {
  say(kAnswer, 1, R"({"size":)");
  EXPECT_EQ(query(), nullptr);
  expect_error(NBDKIT_HANDOFF_E_PROTOCOL, "not JSON");
  say(kError, 2, "{}");
  EXPECT_EQ(query(), nullptr);
  expect_error(NBDKIT_HANDOFF_E_PROTOCOL, "error is not understood");
  say(kAnswer, 3, kExportBody);
  EXPECT_NE(query(), nullptr);
}

TEST_F(HandleTest, ASocketThatIsNoneIsNotTaken) {
  UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  HandoffSockets packets;
  std::size_t before = open_files();
  say(kAnswer, 1, kTakenBody, null.get());
  EXPECT_EQ(nbdkit_handoff_take_over(handle.get(), 5, -1), nullptr);
  expect_error(NBDKIT_HANDOFF_E_PROTOCOL, "no stream socket");
  say(kAnswer, 2, kTakenBody, packets.ours.get());
  EXPECT_EQ(nbdkit_handoff_take_over(handle.get(), 5, -1), nullptr);
  expect_error(NBDKIT_HANDOFF_E_PROTOCOL, "no stream socket");
  say(kAnswer, 3, kTakenBody);
  EXPECT_EQ(nbdkit_handoff_take_over(handle.get(), 5, -1), nullptr);
  expect_error(NBDKIT_HANDOFF_E_PROTOCOL, "no descriptor");
  EXPECT_TRUE(open_files_return_to(before));
}

TEST_F(HandleTest, EventsAreKeptWhileOtherCallsWait) {
  subscribe();
  for (int i = 0; i < 100; ++i) say(kEvent, 0, R"({"event":"stopping"})");
  // Each call reads on until its own answer; the 65th event and all behind it are counted.
  say(kAnswer, 2, kExportBody);
  EXPECT_NE(query(), nullptr) << nbdkit_handoff_error();
  EXPECT_NE(Event(nbdkit_handoff_next_event(handle.get(), -1)), nullptr);
  // Now there would be room, but this one comes after those that are missing.
  say(kEvent, 0, R"({"event":"stopping"})");
  say(kAnswer, 3, kExportBody);
  EXPECT_NE(query(), nullptr) << nbdkit_handoff_error();
  for (int i = 0; i < 63; ++i) {
    Event event(nbdkit_handoff_next_event(handle.get(), -1));
    ASSERT_NE(event, nullptr) << nbdkit_handoff_error();
    EXPECT_EQ(event->kind, NBDKIT_HANDOFF_EVENT_STOPPING);
  }
  Event event(nbdkit_handoff_next_event(handle.get(), -1));
  ASSERT_NE(event, nullptr) << nbdkit_handoff_error();
  EXPECT_EQ(event->kind, NBDKIT_HANDOFF_EVENT_MISSED);
  EXPECT_EQ(event->count, 37u);
  say(kEvent, 0, R"({"event":"stopping"})");
  EXPECT_NE(Event(nbdkit_handoff_next_event(handle.get(), -1)), nullptr);
}

TEST_F(HandleTest, EventsOfAServerThatHasGoneAreStillRead) {
  subscribe();
  say(kEvent, 0, R"({"event":"stopping"})");
  peer->close();
  EXPECT_NE(Event(nbdkit_handoff_next_event(handle.get(), -1)), nullptr);
  EXPECT_EQ(nbdkit_handoff_next_event(handle.get(), -1), nullptr);
  expect_error(NBDKIT_HANDOFF_E_DISCONNECTED, "closed");
}

TEST_F(HandleTest, EventsThatNobodyAskedForAreDropped) {
  for (int i = 0; i < 100; ++i) say(kEvent, 0, R"({"event":"stopping"})");
  say(kAnswer, 1, kExportBody);
  EXPECT_NE(query(), nullptr) << nbdkit_handoff_error();
  say(kAnswer, 2, "{}");
  EXPECT_EQ(nbdkit_handoff_subscribe(handle.get(), -1), 0) << nbdkit_handoff_error();
  EXPECT_EQ(nbdkit_handoff_next_event(handle.get(), 0), nullptr);
}

TEST_F(HandleTest, AThreadMayWaitForEventsWhileOthersAsk) {
  subscribe();
  std::thread listener([this] {
    Event event(nbdkit_handoff_next_event(handle.get(), kLongerThanTheTest));
    EXPECT_NE(event, nullptr) << nbdkit_handoff_error();
  });
  std::thread caller([this] { EXPECT_NE(query(), nullptr) << nbdkit_handoff_error(); });
  EXPECT_EQ(peer->receive().sequence, 2u);
  say(kAnswer, 2, kExportBody);
  caller.join();
  say(kEvent, 0, R"({"event":"stopping"})");
  listener.join();
}

// Who waits at the socket for both gives up first.
TEST_F(HandleTest, AThreadThatGivesUpLeavesTheSocketToAnother) {
  subscribe();
  Waiter listener([this] {
    EXPECT_EQ(nbdkit_handoff_next_event(handle.get(), 100), nullptr);
    expect_error(NBDKIT_HANDOFF_E_NO_ANSWER, "nothing happened");
  });
  listener.until_asleep();
  Waiter caller([this] { EXPECT_NE(query(), nullptr) << nbdkit_handoff_error(); });
  EXPECT_EQ(peer->receive().sequence, 2u);
  listener.join();
  say(kAnswer, 2, kExportBody);
  caller.join();
}

TEST_F(HandleTest, NothingIsLeftOpen) {
  handle.reset();
  peer->close();
  std::size_t before = open_files();
  HandoffSockets sockets;
  int fd = sockets.theirs.release();
  ASSERT_EQ(::fcntl(fd, F_SETFD, 0), 0);
  handle.reset(nbdkit_handoff_adopt(fd));
  EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
  handle.reset();
  sockets.ours.reset();
  EXPECT_EQ(open_files(), before);
  nbdkit_handoff_free(nullptr);
}

}  // namespace
}  // namespace nbdkit
