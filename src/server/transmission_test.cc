// SPDX-License-Identifier: BSD-3-Clause
#include "server/transmission.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <cstdlib>

#include "server/traffic_test.h"
#include "support/socket_pair.h"
#include "support/test_loop.h"

namespace nbdkit {
namespace {

using traffic::Client;
using traffic::CuttingStream;
using traffic::Dice;
using traffic::SlowDevice;

class SilentLog final : public Log {
 public:
  SilentLog() : Log("test", false) {}
  void write(LogLevel, std::string_view, std::string_view) override {}
};

// Notices when it turns and turns while nothing happens: virtual time would stand still for ever.
class WatchedLoop final : public TestLoop {
 public:
  static constexpr std::size_t kTurnsMax = 200'000;  // between two moments

  void on_spin(std::function<void()> told) { told_ = std::move(told); }

 protected:
  int wait(std::span<epoll_event> events, Nanoseconds until) override {
    if (elapsed() != std::exchange(last_, elapsed())) turns_ = 0;
    if (++turns_ % kTurnsMax == 0) told_();
    return TestLoop::wait(events, until);
  }

 private:
  std::function<void()> told_;
  Nanoseconds last_{0};
  std::size_t turns_ = 0;
};

// Calls something at a time.
class Alarm final : public Timer {
 public:
  explicit Alarm(std::function<void()> action) : action_(std::move(action)) {}
  virtual ~Alarm() = default;
  void expired() noexcept override { action_(); }

 private:
  std::function<void()> action_;
};

SocketPair small_sockets(int buffer_size) {
  SocketPair pair;
  for (const UniqueFd* end : {&pair.ours, &pair.theirs}) {
    ::setsockopt(end->get(), SOL_SOCKET, SO_SNDBUF, &buffer_size, sizeof buffer_size);
  }
  return pair;
}

// How a connection comes to its end.
enum class Ending { disconnect, hang_up, cut_short, garbage, abandon, vanish, broken_pipe };
constexpr std::uint64_t kEndings = 7;

struct Session {
  explicit Session(std::uint64_t seed)
      : dice(seed),
        scale(traffic::random_scale(dice)),
        agreement(random_agreement()),
        sockets(small_sockets(static_cast<int>(2048 << dice.below(8)))),
        stream(std::move(sockets.theirs), scale, dice),
        client(loop, std::move(sockets.ours), agreement, scale, dice) {
    context.stocked = dice.one_in(8);
    if (context.stocked) {
      EXPECT_TRUE(loop.stock().ok());
    }
  }

  Agreement random_agreement() {
    Agreement agreed;
    agreed.structured_replies = !dice.one_in(3);
    agreed.extended_headers = agreed.structured_replies && dice.one_in(2);
    for (const MetaContext& context : kMetaContexts) {
      if (agreed.structured_replies && !dice.one_in(3)) agreed.contexts.add(context);
    }
    agreed.read_only = dice.one_in(6);
    return agreed;
  }

  // Goes on with what is left after each drain, as the next server of a socket does.
  Task<TransmissionEnd> serve() {
    std::vector<std::byte> left;
    for (;;) {
      Transmission transmission(context, stream, chain, agreement, "test");
      current = &transmission;
      TransmissionEnd end = co_await transmission.serve(left);
      current = nullptr;
      if (end != TransmissionEnd::drained) co_return end;
      ++drained;
      left.assign(transmission.unread().begin(), transmission.unread().end());
      EXPECT_TRUE(client.is_boundary(stream.received() - left.size()));
      EXPECT_EQ(device->under_way() + device->lent(), 0u);
    }
  }

  Dice dice;
  const std::uint64_t scale;
  WatchedLoop loop;
  Gate gate{loop};
  SilentLog log;
  Context context{loop, gate, log, 1};
  Agreement agreement;
  SocketPair sockets;
  CuttingStream stream;
  Client client;
  SlowDevice* device = new SlowDevice(context, dice);
  Chain chain{DevicePtr(device)};
  Transmission* current = nullptr;
  unsigned drained = 0;
};

// Sees to it that the connection ends as it is meant to, drains it on the way there, and notices
// when nothing happens any more.
class Conductor {
 public:
  Conductor(Session& session, Ending ending)
      : session_(session), ending_(ending), drains_(session.dice.below(4)) {
    session_.loop.on_spin([this] { hang(); });
    arm(watchdog_, Seconds(600));
    arm(drain_, random_time());
    arm(end_, random_time());
  }

  bool hung() const { return hung_; }

 private:
  void arm(Alarm& alarm, Nanoseconds delay) {
    session_.loop.timers().arm(alarm, session_.loop.now() + delay);
  }
  Nanoseconds random_time() {
    return Nanoseconds(session_.dice.below(1 + session_.dice.below(50'000'000)));
  }

  void drain() {
    if (drains_ == 0 || session_.current == nullptr) return;
    --drains_;
    session_.current->drain();
    arm(drain_, random_time());
    if (session_.dice.one_in(3)) arm(change_of_mind_, Nanoseconds(session_.dice.below(2'000'000)));
  }
  void change_mind() {
    if (session_.current != nullptr) session_.current->go_on_serving();
  }
  void end() {
    if (session_.current == nullptr) return;
    if (ending_ == Ending::abandon) session_.current->abandon();
    if (ending_ == Ending::vanish) session_.client.vanish();
    if (ending_ == Ending::broken_pipe) session_.stream.fail_to_send();
  }
  void hang() {
    if (std::exchange(hung_, true)) {
      ADD_FAILURE() << "not even abandon() helps";
      std::abort();
    }
    if (session_.current != nullptr) session_.current->abandon();
    arm(watchdog_, Seconds(600));
  }

  Session& session_;
  const Ending ending_;
  std::uint64_t drains_;
  bool hung_ = false;
  Alarm drain_{[this] { drain(); }};
  Alarm change_of_mind_{[this] { change_mind(); }};
  Alarm end_{[this] { end(); }};
  Alarm watchdog_{[this] { hang(); }};
};

void prepare(Client& client, Dice& dice, Ending ending) {
  client.add_requests(1 + dice.below(dice.one_in(8) ? 1500 : 80));
  if (ending == Ending::garbage) return client.add_bytes(std::string(100, 'x'));
  if (ending == Ending::cut_short) client.cut_short();
  if (ending == Ending::cut_short || ending == Ending::hang_up) return client.hang_up_at_end();
  client.add_header({Command::disconnect, 0, Cookie{0}, 0, 0});
}

void run(std::uint64_t seed) {
  Session session(seed);
  Ending ending = static_cast<Ending>(session.dice.below(kEndings));
  SCOPED_TRACE("NBDKIT_TEST_SEED=" + std::to_string(seed) + " ending " +
               std::to_string(static_cast<int>(ending)));
  prepare(session.client, session.dice, ending);
  Conductor conductor(session, ending);
  session.client.start();
  Result<TransmissionEnd> end = session.loop.run(session.serve());
  ASSERT_TRUE(end.ok());
  EXPECT_FALSE(conductor.hung()) << session.client.answered() << " of " << session.client.requests()
                                 << " were answered";
  EXPECT_EQ(session.device->under_way() + session.device->lent(), 0u);
  EXPECT_LE(session.device->most_under_way(), session.context.stocked
                                                  ? Transmission::kStockedRequestsMax
                                                  : Transmission::kRequestsMax);
  if (ending != Ending::vanish) session.client.take_the_rest();
  EXPECT_EQ(session.client.complaint(), "");
  bool orderly = ending == Ending::disconnect || ending == Ending::hang_up ||
                 ending == Ending::cut_short || ending == Ending::garbage;
  if (!orderly) return;
  EXPECT_EQ(session.client.answered(), session.client.requests());
  EXPECT_EQ(end.value(), ending == Ending::disconnect ? TransmissionEnd::disconnected
                         : ending == Ending::garbage  ? TransmissionEnd::failed
                                                      : TransmissionEnd::closed);
}

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// NBDKIT_TEST_SEED runs that one alone, NBDKIT_TEST_RUNS as many as it says.
TEST(TransmissionTest, EveryRequestIsAnsweredOnceHoweverTheBytesAreCut) {
  std::uint64_t seed = from_environment("NBDKIT_TEST_SEED", 0);
  if (seed != 0) return run(seed);
  std::uint64_t runs = from_environment("NBDKIT_TEST_RUNS", 150);
  for (seed = 1; seed <= runs && !HasFailure(); ++seed) run(seed);
}

// A device that answers at once, or after a time.
class PlainDevice final : public BlockDevice {
 public:
  explicit PlainDevice(Context& context)
      : BlockDevice([] {
          Properties some;
          some.size = 1 << 20;
          some.can_write = some.can_flush = true;
          return some;
        }()),
        context_(context) {}

  Task<void> pread(Request request, Reply& reply) override {
    reply.hole(request.length);
    return Result<void>();
  }
  Task<void> pwrite(Request, Payload&) override { return act(); }
  Task<void> flush() override { return act(); }

  Nanoseconds delay{0};
  std::size_t calls = 0;

 private:
  Task<void> act() {
    ++calls;
    return delay == Nanoseconds(0) ? Result<void>() : context_.sleep(delay);
  }

  Context& context_;
};

class CountingStream final : public ByteStream {
 public:
  explicit CountingStream(UniqueFd socket) : stream_(std::move(socket)) {}
  Result<std::size_t> receive(std::span<iovec> into) override {
    ++receives;
    return stream_.receive(into);
  }
  Result<std::size_t> send(std::span<const iovec> from) override {
    ++sends;
    return stream_.send(from);
  }
  int fd() const override { return stream_.fd(); }

  unsigned receives = 0;
  unsigned sends = 0;

 private:
  SocketStream stream_;
};

struct TurnTest : testing::Test {
  TurnTest() {
    int room = 1 << 20;
    ::setsockopt(client.get(), SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  }
  void say(Command command, std::uint32_t length = 0, std::string_view payload = {}) {
    RequestWire wire = to_wire({command, 0, Cookie{0}, 0, length});
    std::string bytes(reinterpret_cast<const char*>(&wire), sizeof wire);
    bytes += payload;
    ASSERT_EQ(::send(client.get(), bytes.data(), bytes.size(), MSG_DONTWAIT),
              static_cast<ssize_t>(bytes.size()));
  }
  std::size_t answers() {
    std::array<char, 1 << 16> buffer;
    ssize_t n = ::recv(client.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    return n < 0 ? 0 : static_cast<std::size_t>(n) / sizeof(SimpleReplyWire);
  }
  void at(Nanoseconds delay, std::function<void()> action) {
    alarms.push_back(std::make_unique<Alarm>(std::move(action)));
    loop.timers().arm(*alarms.back(), loop.now() + delay);
  }

  TestLoop loop;
  Gate gate{loop};
  SilentLog log;
  Context context{loop, gate, log, 1};
  SocketPair sockets = small_sockets(1 << 16);
  CountingStream stream{std::move(sockets.theirs)};
  UniqueFd client{std::move(sockets.ours)};
  PlainDevice* device = new PlainDevice(context);
  Chain chain{DevicePtr(device)};
  Transmission transmission{context, stream, chain, Agreement(), "test"};
  std::vector<std::unique_ptr<Alarm>> alarms;
};

TEST_F(TurnTest, OneReceiveAndOneSendServeAllThatIsThere) {
  for (int i = 0; i < 100; ++i) say(Command::flush);
  say(Command::disconnect);
  EXPECT_EQ(loop.run(transmission.serve()).value(), TransmissionEnd::disconnected);
  EXPECT_EQ(answers(), 100u);
  EXPECT_EQ(stream.receives, 1u);
  EXPECT_EQ(stream.sends, 1u);
}

// Whoever sends more than its share waits for the next turn, and not for ever.
TEST_F(TurnTest, ATurnHasItsShareOfRequests) {
  constexpr std::size_t kCount = 3 * Transmission::kRequestsPerTurn;
  for (std::size_t i = 0; i < kCount; ++i) say(Command::flush);
  say(Command::disconnect);
  class Counter final : public Job {
   public:
    Counter(Loop& loop, const PlainDevice& served) : loop_(loop), device_(served) { run(); }
    void run() noexcept override {
      most = std::max(most, device_.calls - before_);
      before_ = device_.calls;
      if (device_.calls < kCount) loop_.at_next_turn(*this);
    }
    std::size_t most = 0;

   private:
    Loop& loop_;
    const PlainDevice& device_;
    std::size_t before_ = 0;
  };
  Counter counter(loop, *device);
  EXPECT_EQ(loop.run(transmission.serve()).value(), TransmissionEnd::disconnected);
  EXPECT_EQ(answers(), kCount);
  EXPECT_EQ(counter.most, Transmission::kRequestsPerTurn);
}

TEST_F(TurnTest, FiguresTellOfWhatIsUnderWayAndHowLongTheRestTook) {
  device->delay = Milliseconds(10);
  at(Milliseconds(1), [&] { say(Command::flush); });
  at(Milliseconds(5), [&] { say(Command::flush); });
  RequestFigures amid;
  at(Milliseconds(8), [&] { amid = transmission.figures(); });
  RequestFigures later;
  at(Milliseconds(12), [&] { later = transmission.figures(); });
  at(Milliseconds(20), [&] { say(Command::disconnect); });
  EXPECT_TRUE(loop.run(transmission.serve()).ok());
  EXPECT_EQ(amid.under_way, 2u);
  EXPECT_EQ(amid.oldest, Nanoseconds(Milliseconds(7)));
  EXPECT_EQ(amid.of(RequestKind::flush).requests, 0u);
  EXPECT_EQ(later.under_way, 1u);
  EXPECT_EQ(later.oldest, Nanoseconds(Milliseconds(7))) << "the other one";
  EXPECT_EQ(later.of(RequestKind::flush).requests, 1u);
  RequestFigures end = transmission.figures();
  EXPECT_EQ(end.under_way, 0u);
  EXPECT_FALSE(end.oldest);
  EXPECT_EQ(end.latency.count(LatencyHistogram::bucket_of(Milliseconds(10))), 2u);
  EXPECT_EQ(end.latency_total, Nanoseconds(Milliseconds(20)));
}

TEST_F(TurnTest, WhatWasAbandonedHasNotBeenDrained) {
  device->delay = Seconds(3600);
  say(Command::flush);
  at(Seconds(1), [&] { transmission.drain(); });
  at(Seconds(2), [&] { transmission.abandon(); });
  EXPECT_EQ(loop.run(transmission.serve()).value(), TransmissionEnd::failed);
  EXPECT_EQ(loop.elapsed(), Seconds(2));
  EXPECT_EQ(answers(), 0u);
}

}  // namespace
}  // namespace nbdkit
