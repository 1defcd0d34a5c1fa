// The hash tracker, the engine and a peer: what is known of what was sent is true, whatever the guest does
// meanwhile.
#include <doctest/doctest.h>

#include <future>

#include "dirty/hash.h"
#include "dirty_support.h"
#include "support/endpoints.h"

using namespace dirty_test;
using rdma_migrate::dirty::HashTracker;
using rdma_migrate::dirty::PageDigests;
namespace engine = rdma_migrate::engine;
namespace fabric = rdma_migrate::fabric;

namespace {

// A source with one block and the peer that receives it.
struct Migration {
  explicit Migration(uint64_t length)
      : source(Mapping::memfd("aba-source", length)),
        peer(Mapping::memfd("aba-peer", length)),
        local(pair.source->domain().register_memory(source->address(), length, 0)),
        remote(pair.destination->domain().register_memory(
            peer->address(), length, fabric::kAccessLocalWrite | fabric::kAccessRemoteWrite)) {}
  ~Migration() {
    pair.source->close();
    pair.destination->close();
  }

  std::future<engine::WriteResult> submit(const std::shared_ptr<Bitmap>& bitmap,
                                          std::shared_ptr<PageDigests> digests) {
    engine::WriteJob job;
    job.local_address = source->address();
    job.remote_address = peer->address();
    job.page_size = source->page_size();
    job.spans = {{0, source->length(), local->lkey(), remote->rkey()}};
    job.bitmap = bitmap;
    job.keep_alive = source;
    job.digests = std::move(digests);
    auto done = std::make_shared<std::promise<engine::WriteResult>>();
    pair.source->writer().submit(std::move(job),
                                 [done](const engine::WriteResult& result) { done->set_value(result); });
    return done->get_future();
  }
  void send(const std::shared_ptr<Bitmap>& bitmap, std::shared_ptr<PageDigests> digests) {
    auto result = submit(bitmap, std::move(digests));
    REQUIRE(result.wait_for(std::chrono::seconds(120)) == std::future_status::ready);
    REQUIRE(result.get().ok);
  }
  uint64_t differing_pages() const {
    uint64_t count = 0;
    for (uint64_t at = 0; at < source->length(); at += kPage) {
      count += std::memcmp(source->data() + at, peer->data() + at, kPage) != 0;
    }
    return count;
  }

  rdma_migrate::test::EndpointPair pair;
  std::shared_ptr<Mapping> source, peer;
  std::unique_ptr<fabric::MemoryRegion> local, remote;  // before their connections
};

// Each page is A or B as a whole or in parts, and back again at once: a page that was sent as B is A, as it
// was before.
Guest::Step toggler(const std::shared_ptr<Mapping>& mapping) {
  return [mapping](std::mt19937_64& random, uint64_t) {
    uint8_t* page = mapping->data() + random() % (mapping->length() / kPage) * kPage;
    store(page, 0xb);
    store(page + kPage - 8, 0xb);
    for (uint64_t spin = random() % 64; spin > 0; --spin) std::atomic_signal_fence(std::memory_order_seq_cst);
    store(page, 0xa);
    store(page + kPage - 8, 0xa);
  };
}

void follow(Migration& migration, int rounds) {
  HashTracker tracker({migration.source}, 2);
  tracker.start();
  auto bitmaps = bitmaps_for({migration.source});
  const auto& sent = tracker.sent()[0];
  Guest guest;
  guest.run(toggler(migration.source));
  guest.run(page_writer(migration.source));
  guest.run(toggler(migration.source));
  bitmaps[0]->set_range(0, bitmaps[0]->pages());
  migration.send(bitmaps[0], sent);
  for (int round = 0; round < rounds; ++round) {
    tracker.collect(bitmaps);
    auto sending = migration.submit(bitmaps[0], sent);
    if (round % 3 == 0) tracker.collect(bitmaps);  // reads the table that the engine writes
    REQUIRE(sending.wait_for(std::chrono::seconds(120)) == std::future_status::ready);
  }
  guest.pause();
  tracker.collect(bitmaps);
  migration.send(bitmaps[0], sent);
  CHECK(tracker.collect(bitmaps) == 0);
  migration.pair.sync();
  CHECK(migration.differing_pages() == 0);
}

}  // namespace

TEST_CASE("pages that go from A to B and back while they are sent are never lost") {
  for (int run = 0; run < 5; ++run) {
    Migration migration(kMiB);
    follow(migration, 60);
  }
}

TEST_CASE("more pages than fit the staging memory, with a guest that writes") {
  Migration migration(96 * kMiB);
  follow(migration, 3);
}

TEST_CASE("what the engine has noted is what the peer has") {
  Migration migration(40 * kMiB);
  std::mt19937_64 random(5);
  memory_test::fill_random(migration.source->data(), migration.source->length(), random);
  const auto digests = std::make_shared<PageDigests>(10240, kPage);
  auto bitmap = std::make_shared<Bitmap>(10240);
  for (uint64_t page = 0; page < 10240; page += 1 + random() % 4) bitmap->set_range(page, 1);
  const uint64_t pages = bitmap->count();
  migration.send(bitmap, digests);
  migration.pair.sync();
  uint64_t same = 0;
  for (uint64_t page = 0; page < 10240; ++page) {
    CHECK(digests->is_current(page, migration.peer->data() + page * kPage));
    same += std::memcmp(migration.source->data() + page * kPage, migration.peer->data() + page * kPage,
                        kPage) == 0;
  }
  CHECK(same == pages);
}
