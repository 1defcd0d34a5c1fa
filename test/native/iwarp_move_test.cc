// A queue pair that moves while SENDs, WRITEs and READs go both ways: nothing lost, nothing twice, order
// kept. RDMA_MIGRATE_MOVE_SEED repeats a run; RDMA_MIGRATE_MOVE_OPERATIONS and ..._MOVES make a campaign of
// it.
#include <doctest/doctest.h>

#include "iwarp/provider.h"
#include "support/libcrypto.h"
#include "support/two_way.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;

namespace {

uint64_t number_of(const char* name, uint64_t otherwise) {
  const std::string text = environment(name, "");
  return text.empty() ? otherwise : std::stoull(text);
}

fabric::QueuePairOptions movable(bool crc = false) {
  fabric::QueuePairOptions options;
  options.crc = crc;
  options.resume_window_ms = 60'000;
  options.resume_retry_ms = 1;
  options.movable = true;
  return options;
}

struct Ends {
  Ends(uint64_t seed, uint64_t operations, bool crc)
      : options(movable(crc)),
        active(*provider, seed + 1, operations),
        passive(*provider, seed + 2, operations),
        acceptor(*provider, options) {
    active.prepare(options);
    passive.prepare(options);
    active.queue_pair->connect(acceptor.endpoint(), {});
    passive.queue_pair->accept(acceptor.next(), {}, true);
    active.wait_established();
    passive.wait_established();
    passive.wait_heard();
  }

  std::unique_ptr<fabric::Provider> provider = iwarp::make_provider();
  const fabric::QueuePairOptions options;
  TwoWayEnd active;
  TwoWayEnd passive;
  Acceptor acceptor;
};

}  // namespace

TEST_CASE("moves, with everything under way, lose nothing and repeat nothing") {
  REQUIRE(has_libcrypto);
  const uint64_t seed = number_of("RDMA_MIGRATE_MOVE_SEED", std::random_device{}());
  const uint64_t operations = number_of("RDMA_MIGRATE_MOVE_OPERATIONS", 3'000);
  const uint64_t most = number_of("RDMA_MIGRATE_MOVE_MOVES", 30);
  for (const bool crc : {false, true}) {
    CAPTURE(seed);
    CAPTURE(crc);
    std::mt19937_64 random(seed);
    Ends ends(seed, operations, crc);
    std::thread one([&] { ends.active.run(ends.passive); });
    std::thread other([&] { ends.passive.run(ends.active); });
    uint64_t moved = 0;
    for (uint64_t moves = 0; moves < most; ++moves) {
      TwoWayEnd::MoveOptions how;
      how.ahead = random() % 2 == 0;
      how.is_expected = how.ahead || random() % 2 == 0;
      how.drain = std::chrono::milliseconds(random() % 3 == 0 ? random() % 3 : 5'000);
      how.is_given_up = random() % 4 == 0;
      how.pause = std::chrono::milliseconds(random() % 3);
      TwoWayEnd& mover = random() % 2 == 0 ? ends.active : ends.passive;
      try {
        moved += mover.move(*ends.provider, ends.options, ends.acceptor.endpoint(), how) ? 1 : 0;
      } catch (const Error& error) {
        CHECK(error.code() == "BUSY");  // it has not heard that its peer has arrived
      } catch (const std::exception& error) {
        FAIL_CHECK("move " << moves << ": " << std::string(error.what()));
        break;
      }
    }
    one.join();
    other.join();
    const bool done =
        ends.active.wait_done(ends.passive.sends()) && ends.passive.wait_done(ends.active.sends());
    const int restored = ends.active.restored() + ends.passive.restored();
    MESSAGE("seed " << seed << ": " << most << " moves, " << most - moved << " given up, links restored "
                    << restored << " times");
    CHECK(moved > most / 3);
    if (done) {
      ends.active.queue_pair->disconnect();
      ends.active.wait_closed();
      ends.passive.wait_closed();
    }
    ends.active.queue_pair->close();
    ends.passive.queue_pair->close();
  }
}
