// Peers that do a little now and then, so that something has always just happened: what counts as progress,
// and that every end comes.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "fabric/progress_watch.h"
#include "support/victim.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;
using std::chrono::milliseconds;

namespace {

fabric::QueuePairOptions with_stall(uint32_t milliseconds) {
  fabric::QueuePairOptions options;
  options.stall_timeout_ms = milliseconds;
  return options;
}

// Does something again and again, on a thread of its own, until it goes.
class Again {
 public:
  template <typename Body>
  Again(milliseconds pause, Body body)
      : thread_([this, pause, body]() mutable {
          while (!stopping_.load()) {
            body();
            if (pause.count() != 0) std::this_thread::sleep_for(pause);
          }
        }) {}
  ~Again() {
    stopping_.store(true);
    thread_.join();
  }

 private:
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace

TEST_CASE("progress is what ends, or enough bytes in a window") {
  using Watch = fabric::ProgressWatch;
  const Watch::Clock::time_point start{};
  Watch watch(std::chrono::seconds(10));
  CHECK_FALSE(watch.stalled(start + std::chrono::hours(1)));  // nothing is owed
  watch.begin(start);
  watch.moved(10 * Watch::kLeastRate - 1);
  CHECK_FALSE(watch.stalled(start + std::chrono::seconds(9)));
  CHECK(watch.stalled(start + std::chrono::seconds(10)));
  watch.moved(1);
  CHECK_FALSE(watch.stalled(start + std::chrono::seconds(10)));
  watch.moved(1);
  CHECK(watch.stalled(start + std::chrono::seconds(20)));
  watch.end();
  CHECK_FALSE(watch.stalled(start + std::chrono::seconds(21)));
  watch.begin(start + std::chrono::seconds(30));
  CHECK_FALSE(watch.stalled(start + std::chrono::seconds(39)));
}

TEST_CASE("a message that trickles in byte by byte is a stall") {
  Victim victim({}, with_stall(300));
  const Bytes message = fpdu(send_header(1), pattern(900, 1));
  size_t at = 0;
  Again trickle(milliseconds(20), [&] {
    if (at < message.size()) victim.peer.send({message[at++]});
  });
  victim.events.wait_closed();
  CHECK(victim.events.reason_code() == "TIMEOUT");
  CHECK(victim.events.recvs().at(0).status == fabric::Status::kFlushed);
}

TEST_CASE("a message that never ends, in segments of a byte, is a stall") {
  Victim victim({}, with_stall(300));
  uint32_t offset = 0;
  Again trickle(milliseconds(20),
                [&] { victim.peer.send(fpdu(send_header(1, false, offset++), pattern(1, 1))); });
  victim.events.wait_closed();
  CHECK(victim.events.reason_code() == "TIMEOUT");
}

TEST_CASE("empty WRITEs between the segments of a message do not keep it alive") {
  Victim victim({}, with_stall(300));
  victim.peer.send(fpdu(send_header(1, false), pattern(10, 1)));
  Again trickle(milliseconds(20), [&] { victim.peer.send(fpdu(write_header(0, 0), {})); });
  victim.events.wait_closed();
  CHECK(victim.events.reason_code() == "TIMEOUT");
}

TEST_CASE("a slow peer is not a stalled one") {
  constexpr size_t kPiece = 120;
  constexpr size_t kPieces = 100;
  Victim victim({}, with_stall(2000), 0);
  Buffer inbox(victim.domain, kPiece * kPieces, fabric::kAccessLocalWrite);
  victim.queue_pair->post_recv(recv_of(inbox, 0));
  // Longer than the window in all, and four times the least rate: a busy machine may sleep longer than it is
  // asked to, and pause for a part of the window.
  for (size_t at = 0; at < kPieces; ++at) {
    const bool last = at + 1 == kPieces;
    victim.peer.send(fpdu(send_header(1, last, static_cast<uint32_t>(at * kPiece)), pattern(kPiece, at)));
    std::this_thread::sleep_for(milliseconds(25));
  }
  victim.events.wait_recvs(1);
  CHECK(victim.events.recvs().at(0).byte_len == kPiece * kPieces);
}

TEST_CASE("disconnect ends within the stall timeout, whatever the peer goes on to send") {
  SUBCASE("WRITEs without a pause") {
    Victim victim({}, with_stall(300));
    const Bytes write =
        fpdu(write_header(victim.region->region->rkey(), victim.region->address()), pattern(32 * 1024, 1));
    {
      Again flood(milliseconds(0), [&] { victim.peer.send(write); });
      victim.queue_pair->disconnect();
      victim.events.wait_closed();
    }
    CHECK(victim.events.closed() == 1);
  }
  SUBCASE("a byte now and then") {
    Victim victim({}, with_stall(300));
    const Bytes message = fpdu(send_header(1), pattern(900, 1));
    size_t at = 0;
    Again trickle(milliseconds(20), [&] {
      if (at < message.size()) victim.peer.send({message[at++]});
    });
    victim.queue_pair->disconnect();
    victim.events.wait_closed();
  }
  SUBCASE("empty WRITEs, while it takes nothing of what is left to send") {
    Victim victim({}, with_stall(300));
    Buffer large(victim.domain, 64 << 20, 0);
    victim.queue_pair->post_send(send_of(large, large.bytes.size()));
    {
      Again trickle(milliseconds(20), [&] { victim.peer.send(fpdu(write_header(0, 0), {})); });
      victim.queue_pair->disconnect();
      victim.events.wait_closed();
    }
    CHECK(victim.events.reason_code() == "TIMEOUT");
  }
  SUBCASE("it takes what is left to send, but too slowly") {
    Victim victim({}, with_stall(500));
    Buffer large(victim.domain, 64 << 20, 0);
    victim.queue_pair->post_send(send_of(large, large.bytes.size()));
    {
      Again sip(milliseconds(20), [&] { victim.peer.receive(64 * 1024); });
      victim.queue_pair->disconnect();
      victim.events.wait_closed();
    }
    CHECK(victim.events.reason_code() == "TIMEOUT");
  }
}
