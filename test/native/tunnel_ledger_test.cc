// What two ends of a stream may tell each other, and that they never wait for each other for ever.
#include <doctest/doctest.h>

#include <deque>
#include <random>

#include "tunnel/ledger.h"

using namespace rdma_migrate::tunnel;

namespace {

constexpr uint64_t kRing = 65'536;

State said(uint32_t taken, uint64_t written, uint64_t consumed = 0, uint32_t flags = 0) {
  return {flags, taken, 0, written, consumed};
}

// One end: what it has to say comes at any moment.
struct End {
  Ledger ledger{kRing};
  std::deque<State> to_peer;

  bool speak(uint64_t news) {
    const bool due = ledger.is_due(news != ledger.told().written);
    if (due) to_peer.push_back(ledger.say(said(0, news)));
    return due;
  }
};

}  // namespace

TEST_CASE("a message comes out as it went in") {
  const State state{State::kEnd | State::kReset, 0xfedcba98, 3, 0x0123456789abcdef, 42};
  const auto bytes = encode(state);
  CHECK(bytes[3] == State::kKind);
  const auto back = decode(bytes);
  REQUIRE(back);
  CHECK(back->flags == state.flags);
  CHECK(back->taken == state.taken);
  CHECK(back->reason == state.reason);
  CHECK(back->written == state.written);
  CHECK(back->consumed == state.consumed);
  CHECK_FALSE(decode(std::span(bytes).first(31)));
}

TEST_CASE("what cannot be true is refused") {
  Ledger ledger(kRing);
  CHECK_FALSE(ledger.take(said(0, kRing)));
  CHECK(ledger.take(said(0, kRing + 1)));
  CHECK(ledger.take(said(0, kRing - 1)));
  CHECK(ledger.take(said(1, kRing)));
  CHECK(ledger.take(said(0, kRing, 1)));
  CHECK(ledger.take(said(0, kRing, 0, State::kDelivered)));
  ledger.say(said(0, 10, 5));
  CHECK_FALSE(ledger.take(said(1, kRing + 5, 10, State::kEnd)));
  CHECK(ledger.take(said(1, kRing + 5, 10)));
  CHECK(ledger.take(said(1, kRing + 6, 10, State::kEnd)));
}

TEST_CASE("two ends whose first messages cross answer each other, whatever else they have to say") {
  End ends[2];
  for (End& end : ends) {
    REQUIRE(end.speak(1));
    REQUIRE(end.speak(2));
    CHECK_FALSE(end.speak(3));
  }
  for (size_t who : {0, 1}) {
    for (const State& state : ends[who].to_peer) REQUIRE_FALSE(ends[1 - who].ledger.take(state));
    ends[who].to_peer.clear();
  }
  // Neither knows yet that its own have been taken.
  for (End& end : ends) CHECK(end.speak(3));
  for (size_t who : {0, 1}) {
    REQUIRE_FALSE(ends[1 - who].ledger.take(ends[who].to_peer.front()));
    CHECK(ends[1 - who].ledger.peer().written == 3);
  }
}

TEST_CASE("more messages than RECVs are never under way, and nobody waits for ever") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  End ends[2];
  uint64_t news[2] = {0, 0};
  for (int step = 0; step < 200'000; ++step) {
    const size_t who = random() % 2;
    End& end = ends[who];
    switch (random() % 3) {
      case 0:
        if (news[who] < kRing) ++news[who];
        break;
      case 1:
        end.speak(news[who]);
        break;
      default:
        if (!end.to_peer.empty()) {
          REQUIRE_FALSE(ends[1 - who].ledger.take(end.to_peer.front()));
          end.to_peer.pop_front();
        }
    }
    REQUIRE(end.to_peer.size() <= Ledger::kMostUnderWay);
  }
  // All that is under way arrives, and all that is new is told.
  for (int round = 0; round < 100; ++round) {
    for (size_t who : {0, 1}) {
      ends[who].speak(news[who]);
      for (const State& state : ends[who].to_peer) REQUIRE_FALSE(ends[1 - who].ledger.take(state));
      ends[who].to_peer.clear();
    }
  }
  for (size_t who : {0, 1}) CHECK(ends[1 - who].ledger.peer().written == news[who]);
}
