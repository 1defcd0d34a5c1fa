// Several queue pairs of the software RNIC between two endpoints: pages arrive where they belong, and a
// barrier waits for them.
#include <doctest/doctest.h>

#include <cstring>
#include <future>
#include <random>

#include "memory/mapping.h"
#include "support/endpoints.h"
#include "support/protection.h"
#include "support/raw_peer.h"

namespace rdma_migrate::engine {
namespace {

constexpr uint64_t kPage = 4096;

struct Migration {
  explicit Migration(uint64_t pages, size_t rails)
      : pair({}, rails),
        source(memory::Mapping::memfd("rails-source", pages * kPage)),
        peer(memory::Mapping::memfd("rails-peer", pages * kPage)),
        bitmap(std::make_shared<memory::Bitmap>(pages)),
        local(pair.source->domain().register_memory(source->address(), source->length(), 0)),
        remote(pair.destination->domain().register_memory(
            peer->address(), peer->length(), fabric::kAccessLocalWrite | fabric::kAccessRemoteWrite)) {
    for (uint64_t page = 0; page < pages; ++page)
      std::memcpy(source->data() + page * kPage, &page, sizeof page);
  }
  ~Migration() {
    pair.source->close();
    pair.destination->close();
  }
  std::future<WriteResult> submit() {
    WriteJob job;
    job.local_address = source->address();
    job.remote_address = peer->address();
    job.spans = {{0, source->length(), local->lkey(), remote->rkey()}};
    job.bitmap = bitmap;
    job.keep_alive = source;
    auto done = std::make_shared<std::promise<WriteResult>>();
    pair.source->writer().submit(std::move(job),
                                 [done](const WriteResult& result) { done->set_value(result); });
    return done->get_future();
  }

  test::EndpointPair pair;
  std::shared_ptr<memory::Mapping> source, peer;
  std::shared_ptr<memory::Bitmap> bitmap;
  std::unique_ptr<fabric::MemoryRegion> local, remote;
};

TEST_CASE("pages that several rails carry are all there when the barrier has passed, and no others") {
  for (const size_t rails : {1, 2, 4}) {
    constexpr uint64_t kPages = 16384;
    Migration migration(kPages, rails);
    REQUIRE(migration.pair.source->rails() == rails);
    REQUIRE(migration.pair.destination->rails() == rails);
    std::mt19937 random(static_cast<unsigned>(rails));
    std::vector<bool> sent(kPages);
    for (uint64_t page = 1; page < kPages; ++page) {
      sent[page] = random() % 4 != 0;
      if (sent[page]) migration.bitmap->set_range(page, 1);
    }
    auto result = migration.submit();
    REQUIRE(result.wait_for(std::chrono::seconds(120)) == std::future_status::ready);
    CHECK(result.get().ok);
    migration.pair.source->barrier(1);
    migration.pair.source_events.wait_barriers(1);
    migration.pair.sync();  // the first queue pair's own WRITEs are before its messages
    uint64_t wrong = 0;
    for (uint64_t page = 1; page < kPages; ++page) {
      uint64_t there = 0;
      std::memcpy(&there, migration.peer->data() + page * kPage, sizeof there);
      wrong += there != (sent[page] ? page : 0);
    }
    CHECK(wrong == 0);
    CHECK(migration.pair.destination->totals().write_bytes_placed ==
          kPage * static_cast<uint64_t>(std::count(sent.begin(), sent.end(), true)));
  }
}

TEST_CASE("a bandwidth limit over several rails lets each one go on, whoever posted last") {
  for (int round = 0; round < 5; ++round) {
    constexpr uint64_t kPages = 16384;
    Migration migration(kPages, 4);
    migration.pair.source->writer().set_max_bandwidth(uint64_t{256} << 20);
    std::mt19937 random(static_cast<unsigned>(round));
    for (uint64_t page = 0; page < kPages; ++page)
      if (random() % 4 != 0) migration.bitmap->set_range(page, 1);
    auto result = migration.submit();
    // A rail that nobody rings again stands still for good.
    REQUIRE(result.wait_for(std::chrono::seconds(60)) == std::future_status::ready);
    CHECK(result.get().ok);
  }
}

TEST_CASE("both ends ask for barriers at once, again and again") {
  test::EndpointPair pair({}, 3);
  for (int round = 1; round <= 50; ++round) {
    pair.source->barrier(static_cast<uint64_t>(round));
    pair.destination->barrier(static_cast<uint64_t>(round));
    pair.source_events.wait_barriers(round);
    pair.destination_events.wait_barriers(round);
  }
}

// One more rail of a pair that has none; the peer's keys may be others.
void add_protected_rail(test::EndpointPair& pair, const fabric::Protection& passive) {
  REQUIRE(test::has_libcrypto);
  pair.source->connect_rail(pair.acceptor.endpoint(), {}, 10'000, 1, test::active_protection());
  pair.destination->accept_rail(pair.acceptor.next(), {}, 1, passive);
  pair.source_events.wait_rails(1);
  pair.destination_events.wait_rails(1);
}

TEST_CASE(
    "a protected rail carries what others do, also of an endpoint that holds what is not protected yet") {
  fabric::QueuePairOptions options;
  options.hold_until_protected = true;
  test::EndpointPair pair(options);
  add_protected_rail(pair, test::passive_protection());
  pair.source->barrier(1);
  pair.destination->barrier(2);
  pair.source_events.wait_barriers(1);
  pair.destination_events.wait_barriers(1);
  CHECK(pair.source->rails() == 2);
}

TEST_CASE("a rail of other keys carries nothing: the end that counts on it is told which one it is") {
  test::EndpointPair pair;
  add_protected_rail(pair, test::protection_of(3, 4));
  pair.source->barrier(1);
  pair.source_events.wait_closed();
  CHECK(pair.source_events.reason()->code() == "INTEGRITY_ERROR");
  CHECK(std::string(pair.source_events.reason()->what()).find("channel 2 of 2") == 0);
  CHECK(pair.source_events.barriers() == 0);
}

TEST_CASE("a rail of somebody who has no keys is left out, and the migration goes on") {
  test::EndpointPair pair;
  test::RawPeer stranger(pair.acceptor.endpoint());
  stranger.send(iwarp::encode(iwarp::MpaFrame{}));
  pair.destination->accept_rail(pair.acceptor.next(), {}, 1, test::passive_protection());
  stranger.send({1, 2, 3, 4, 5});
  pair.destination_events.wait_rails(1);
  for (int wait = 0; wait < 10'000 && pair.destination->rails() != 1; ++wait)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  REQUIRE(pair.destination->rails() == 1);
  pair.source->barrier(1);
  pair.source_events.wait_barriers(1);
  pair.sync();
  CHECK(pair.destination_events.ends() == 0);
}

TEST_CASE("an endpoint that closes in the middle of a job with rails leaves nothing waiting") {
  for (int round = 0; round < 5; ++round) {
    Migration migration(16384, 3);
    migration.bitmap->set_range(0, 16384);
    auto result = migration.submit();
    migration.pair.source->barrier(1);
    std::this_thread::sleep_for(std::chrono::milliseconds(round));
    migration.pair.destination->close();
    REQUIRE(result.wait_for(std::chrono::seconds(60)) == std::future_status::ready);
    migration.pair.source->close();
    migration.pair.source_events.wait_closed();
    CHECK(migration.pair.source_events.ends() == 1);
  }
}

}  // namespace
}  // namespace rdma_migrate::engine
