// WRITE and READ, whatever the provider: placement, order, protection.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "support/providers.h"
#include "support/rig.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;
using fabric::Opcode;

TEST_CASE("WRITE places bytes at any offset and of any size, and nothing beside them") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    constexpr size_t kSize = 1 << 20;
    for (size_t size : {size_t{0}, size_t{1}, size_t{3}, size_t{4096}, size_t{61440}, size_t{61441},
                        size_t{200001}, kSize - 10}) {
      CAPTURE(size);
      Rig rig(provider, options, kSize);
      Buffer source(rig.pair.active_domain, kSize);
      source.fill(pattern(kSize, size));
      REQUIRE(rig.pair.active->post_send(
          rdma_of(Opcode::kRdmaWrite, source, 3, rig.remote->address(7), rig.remote->region->rkey(), size)));
      rig.sync();
      fabric::Bytes expected(kSize, 0xee);
      std::copy_n(source.bytes.begin() + 3, size, expected.begin() + 7);
      CHECK(rig.remote->bytes == expected);
      if (is_software(provider)) CHECK(rig.pair.passive->counters().write_bytes_placed == size);
    }
  });
}

namespace {

// What was placed, one range after the other.
struct Placed final : fabric::PlacementObserver {
  void placed(uint64_t address, uint64_t length) override {
    if (bytes == 0) first = address;
    in_order = in_order && address == first + bytes;
    bytes += length;
  }
  uint64_t first = 0;
  uint64_t bytes = 0;
  bool in_order = true;
};

}  // namespace

TEST_CASE("tells of what WRITEs place before the message after them, or says that it cannot") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    constexpr size_t kSize = 1 << 20;
    Rig rig(provider, options, kSize);
    const auto observer = std::make_shared<Placed>();
    const bool told = rig.pair.passive_domain->observe_placement(observer);
    CHECK(told == is_software(provider));
    Buffer source(rig.pair.active_domain, kSize);
    source.fill(pattern(kSize, 3));
    for (size_t at = 100; at < kSize; at += 200'000) {
      const size_t size = std::min<size_t>(200'000, kSize - at);
      REQUIRE(rig.pair.active->post_send(rdma_of(Opcode::kRdmaWrite, source, at, rig.remote->address(at),
                                                 rig.remote->region->rkey(), size, at)));
    }
    rig.sync();
    if (!told) return;
    CHECK(observer->first == rig.remote->address(100));
    CHECK(observer->bytes == kSize - 100);
    CHECK(observer->in_order);
    CHECK_THROWS_AS(rig.pair.passive_domain->observe_placement(observer), Error);
  });
}

TEST_CASE("a SEND is delivered after every WRITE before it") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    constexpr size_t kSize = 1 << 20;
    constexpr size_t kPiece = 4096;
    Rig rig(provider, options, kSize);
    Buffer source(rig.pair.active_domain, kSize);
    source.fill(pattern(kSize, 5));
    for (size_t at = 0; at < kSize; at += kPiece) {
      while (!rig.pair.active->post_send(rdma_of(Opcode::kRdmaWrite, source, at, rig.remote->address(at),
                                                 rig.remote->region->rkey(), kPiece, at))) {
        std::this_thread::yield();
      }
    }
    rig.sync();
    CHECK(rig.remote->bytes == source.bytes);
    rig.pair.active_events.wait_sends(kSize / kPiece + 1);
    std::vector<fabric::Completion> sends = rig.pair.active_events.sends();
    for (size_t index = 0; index < kSize / kPiece; ++index) CHECK(sends[index].wr_id == index * kPiece);
  });
}

TEST_CASE("READ fetches bytes, many at a time, in order with other requests") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    constexpr size_t kSize = 1 << 20;
    constexpr size_t kReads = 50;
    Rig rig(provider, options, kSize);
    rig.remote->fill(pattern(kSize, 9));
    Buffer sink(rig.pair.active_domain, kSize, fabric::kAccessLocalWrite);
    size_t piece = kSize / kReads;
    for (size_t index = 0; index < kReads; ++index) {
      REQUIRE(rig.pair.active->post_send(rdma_of(Opcode::kRdmaRead, sink, index * piece,
                                                 rig.remote->address(index * piece),
                                                 rig.remote->region->rkey(), piece, index)));
      REQUIRE(rig.pair.active->post_send(send_of(*rig.local, 0, 1000 + index)));
      if (index == 0) rig.pair.passive_events.wait_recvs(1);
      rig.pair.passive->post_recv(recv_of(*rig.inbox));
      rig.pair.passive_events.wait_recvs(index + 1);
    }
    rig.pair.active_events.wait_sends(2 * kReads);
    CHECK(std::memcmp(sink.bytes.data(), rig.remote->bytes.data(), kReads * piece) == 0);
    std::vector<fabric::Completion> sends = rig.pair.active_events.sends();
    for (size_t index = 0; index < kReads; ++index) {
      CHECK(sends[2 * index].wr_id == index);
      CHECK(sends[2 * index].byte_len == piece);
      CHECK(sends[2 * index + 1].wr_id == 1000 + index);
    }
  });
}

TEST_CASE("READ of nothing completes, and READs work while WRITEs run the other way") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    constexpr size_t kSize = 4 << 20;
    Rig rig(provider, options, kSize);
    rig.remote->fill(pattern(kSize, 4));
    Buffer back(rig.pair.active_domain, kSize, kRemoteAll);
    Buffer sink(rig.pair.active_domain, kSize, fabric::kAccessLocalWrite);
    REQUIRE(rig.pair.active->post_send(rdma_of(Opcode::kRdmaRead, sink, 0, 0, 0, 0, 1)));
    REQUIRE(rig.pair.active->post_send(
        rdma_of(Opcode::kRdmaRead, sink, 0, rig.remote->address(), rig.remote->region->rkey(), kSize, 2)));
    REQUIRE(rig.pair.passive->post_send(
        rdma_of(Opcode::kRdmaWrite, *rig.remote, 0, back.address(), back.region->rkey(), kSize)));
    Buffer done(rig.pair.active_domain, 16);
    rig.pair.active->post_recv(recv_of(done));
    REQUIRE(rig.pair.passive->post_send(send_of(*rig.inbox, 0)));
    rig.pair.active_events.wait_sends(2);
    rig.pair.active_events.wait_recvs(1);
    CHECK(sink.bytes == rig.remote->bytes);
    CHECK(back.bytes == rig.remote->bytes);
    rig.pair.close();
  });
}

TEST_CASE("a WRITE without the right, out of bounds or under a wrong key is refused and places nothing") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    constexpr size_t kSize = 256 * 1024;
    const fabric::Bytes untouched(kSize, 0xee);
    SUBCASE("no remote write access") {
      Rig rig(provider, options, kSize, fabric::kAccessLocalWrite | fabric::kAccessRemoteRead);
      rig.expect_refused(rig.write(0, 0, 4096));
      CHECK(rig.remote->bytes == untouched);
    }
    SUBCASE("one byte past the end") {
      Rig rig(provider, options, kSize);
      rig.expect_refused(rig.write(0, kSize - 4095, 4096));
      CHECK(rig.remote->bytes == untouched);
    }
    SUBCASE("one byte before the start") {
      Rig rig(provider, options, kSize);
      fabric::SendWorkRequest request = rig.write(0, 0, 4096);
      request.remote_address -= 1;
      rig.expect_refused(request);
      CHECK(rig.remote->bytes == untouched);
    }
    SUBCASE("offset and length wrap") {
      Rig rig(provider, options, kSize);
      fabric::SendWorkRequest request = rig.write(0, 0, 4096);
      request.remote_address = UINT64_MAX - 100;
      rig.expect_refused(request);
    }
    SUBCASE("unknown key") {
      Rig rig(provider, options, kSize);
      fabric::SendWorkRequest request = rig.write(0, 0, 4096);
      request.rkey ^= 0x10;
      rig.expect_refused(request);
      CHECK(rig.remote->bytes == untouched);
    }
    SUBCASE("the key of another domain") {
      Rig rig(provider, options, kSize);
      Rig other(provider, options, kSize);
      fabric::SendWorkRequest request = rig.write(0, 0, 4096);
      request.rkey = other.remote->region->rkey();
      request.remote_address = other.remote->address();
      rig.expect_refused(request);
      CHECK(other.remote->bytes == untouched);
    }
    SUBCASE("the key of a deregistered region") {
      Rig rig(provider, options, kSize);
      fabric::SendWorkRequest request = rig.write(0, 0, 4096);
      rig.remote->region.reset();
      rig.expect_refused(request);
      CHECK(rig.remote->bytes == untouched);
    }
    SUBCASE("the key of a region whose rights were revoked") {
      Rig rig(provider, options, kSize);
      fabric::SendWorkRequest request = rig.write(0, 0, 4096);
      rig.pair.passive_domain->revoke_remote_access();
      rig.expect_refused(request);
      CHECK(rig.remote->bytes == untouched);
    }
    SUBCASE("READ without remote read access") {
      Rig rig(provider, options, kSize, fabric::kAccessLocalWrite | fabric::kAccessRemoteWrite);
      if (rig.silent) return skip(provider, "siw checks the bounds of a READ and not its right");
      rig.expect_refused(
          rdma_of(Opcode::kRdmaRead, *rig.local, 0, rig.remote->address(), rig.remote->region->rkey(), 64));
    }
    SUBCASE("READ out of bounds") {
      Rig rig(provider, options, kSize);
      rig.expect_refused(rdma_of(Opcode::kRdmaRead, *rig.local, 0, rig.remote->address(kSize - 63),
                                 rig.remote->region->rkey(), 64));
    }
  });
}

TEST_CASE("revoked rights end WRITEs and nothing else") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    constexpr size_t kSize = 256 * 1024;
    Rig rig(provider, options, kSize);
    rig.local->fill(pattern(kSize, 4));
    REQUIRE(rig.pair.active->post_send(rig.write(0, 0, kSize)));
    rig.sync();
    rig.pair.passive_domain->revoke_remote_access();
    CHECK(rig.remote->bytes == rig.local->bytes);
    // Messages go on both ways, and registering for local use too.
    Buffer answer(rig.pair.passive_domain, 64);
    Buffer there(rig.pair.active_domain, 64, fabric::kAccessLocalWrite);
    rig.pair.active->post_recv(recv_of(there));
    REQUIRE(rig.pair.passive->post_send(send_of(answer, 64)));
    rig.pair.active_events.wait_recvs(1);
    rig.pair.passive->post_recv(recv_of(*rig.inbox));
    REQUIRE(rig.pair.active->post_send(send_of(*rig.local, 0, 100)));
    rig.pair.passive_events.wait_recvs(2);
    CHECK_THROWS_WITH_AS(rig.pair.passive_domain->register_memory(rig.remote->address(), kSize, kRemoteAll),
                         doctest::Contains("no rights to memory any more"), Error);
    rig.pair.passive_domain->revoke_remote_access();  // again: nothing
    rig.pair.close();
    rig.pair.passive_domain->revoke_remote_access();  // and after the end
  });
}

TEST_CASE("keys are random") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    if (!is_software(provider)) return skip(provider, "a device chooses its keys itself");
    Pair pair(provider, pair_options(options));
    Buffer buffer(pair.active_domain, 64);
    std::vector<uint32_t> keys;
    std::vector<std::unique_ptr<fabric::MemoryRegion>> regions;
    for (int count = 0; count < 32; ++count) {
      regions.push_back(pair.active_domain->register_memory(buffer.address(), 64, kRemoteAll));
      keys.push_back(regions.back()->rkey());
    }
    std::sort(keys.begin(), keys.end());
    CHECK(std::adjacent_find(keys.begin(), keys.end()) == keys.end());
    CHECK(keys.back() - keys.front() > 0x10000000);
    regions.clear();
    pair.close();
  });
}

TEST_CASE("the peer's WRITEs go on while other regions come and go") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    constexpr size_t kSize = 1 << 20;
    Rig rig(provider, options, kSize);
    Buffer source(rig.pair.active_domain, kSize);
    source.fill(pattern(kSize, 8));
    std::atomic<bool> done{false};
    std::thread churn([&] {
      fabric::Bytes memory(4096);
      while (!done) {
        auto here = rig.pair.passive_domain->register_memory(reinterpret_cast<uintptr_t>(memory.data()),
                                                             memory.size(), kRemoteAll);
        auto there = rig.pair.active_domain->register_memory(reinterpret_cast<uintptr_t>(memory.data()),
                                                             memory.size(), kRemoteAll);
      }
    });
    for (size_t round = 1; round <= 20; ++round) {
      REQUIRE(rig.pair.active->post_send(rdma_of(Opcode::kRdmaWrite, source, 0, rig.remote->address(),
                                                 rig.remote->region->rkey(), kSize, round)));
      rig.pair.active_events.wait_sends(round);
    }
    rig.sync();
    done = true;
    churn.join();
    CHECK(rig.remote->bytes == source.bytes);
  });
}
