// What every provider must do: connections, SEND and RECV, WRITE, READ, protection. Ends of connections: fabric_close_test.cc.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "support/providers.h"
#include "support/requests.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;
using fabric::Opcode;
using fabric::Status;

namespace {

PairOptions pair_options(const fabric::ConnectionOptions& options) {
  PairOptions result;
  result.active = result.passive = options;
  return result;
}

// A pair whose passive end has one large region for WRITE and READ, and a RECV posted.
struct Rig {
  Rig(fabric::Provider& provider, const fabric::ConnectionOptions& options, size_t size, unsigned access = kRemoteAll)
      : pair(provider, with_memory(options, size, access)) {}
  PairOptions with_memory(const fabric::ConnectionOptions& options, size_t size, unsigned access) {
    PairOptions result = pair_options(options);
    result.prepare = [this, size, access](fabric::Connection& active, fabric::Connection& passive) {
      local = std::make_unique<Buffer>(active, size);
      remote = std::make_unique<Buffer>(passive, size, access, 0xee);
      inbox = std::make_unique<Buffer>(passive, 64);
      passive.post_recv(recv_of(*inbox, 77));
    };
    return result;
  }
  fabric::SendWorkRequest write(size_t local_at, size_t remote_at, size_t size, uint64_t wr_id = 1) {
    return rdma_of(Opcode::kRdmaWrite, *local, local_at, remote->address(remote_at), remote->region->rkey(), size, wr_id);
  }
  // Everything before it has been placed when the peer has it.
  void sync() {
    REQUIRE(pair.active->post_send(send_of(*local, 0, 99)));
    pair.passive_events.wait_recvs(1);
  }
  // The provider refuses the WRITE or READ: both ends close, each with a reason of its own.
  void expect_refused(const fabric::SendWorkRequest& request) {
    REQUIRE(pair.active->post_send(request));
    pair.passive_events.wait_closed();
    pair.active_events.wait_closed();
    CHECK(pair.passive_events.reason_code() == "REMOTE_ACCESS_ERROR");
    CHECK(pair.active_events.reason_code() == "TERMINATE_RECEIVED");
  }

  ~Rig() {
    pair.close();
    // Before their connections.
    local.reset();
    remote.reset();
    inbox.reset();
  }

  std::unique_ptr<Buffer> local;
  std::unique_ptr<Buffer> remote;
  std::unique_ptr<Buffer> inbox;
  Pair pair;  // its making fills the members above
};

}  // namespace

TEST_CASE("private data travels both ways") {
  for_each_provider([](fabric::Provider& provider, const fabric::ConnectionOptions& options) {
    for (size_t size : {size_t{0}, size_t{1}, size_t{8}, size_t{56}}) {
      PairOptions with_data = pair_options(options);
      with_data.request_data = pattern(size, 1);
      with_data.reply_data = pattern(size, 2);
      Pair pair(provider, with_data);
      CHECK(pair.request_data == with_data.request_data);
      CHECK(pair.passive_events.private_data() == with_data.request_data);
      CHECK(pair.active_events.private_data() == with_data.reply_data);
      CHECK(pair.active->info().crc == options.crc);
      CHECK(pair.active->info().provider == provider.name());
    }
  });
}

TEST_CASE("a rejected peer learns so, and both ends close") {
  for_each_provider([](fabric::Provider& provider, const fabric::ConnectionOptions& options) {
    Acceptor acceptor(provider, options);
    Recorder active_events;
    Recorder passive_events;
    auto active = provider.connect_to(acceptor.endpoint(), options, active_events);
    active->connect({});
    auto passive = acceptor.next()->take(options, passive_events);
    passive->reject(pattern(8, 3));
    active_events.wait_closed();
    CHECK(active_events.reason_code() == "REJECTED");
    CHECK(active_events.reason_text().find("8 bytes") != std::string::npos);
    CHECK_FALSE(active_events.established());
    passive_events.wait_closed();
    CHECK(passive_events.reason_code() == "");
  });
}

TEST_CASE("a request that nobody takes is rejected") {
  for_each_provider([](fabric::Provider& provider, const fabric::ConnectionOptions& options) {
    Acceptor acceptor(provider, options);
    Recorder events;
    auto active = provider.connect_to(acceptor.endpoint(), options, events);
    active->connect({});
    acceptor.next().reset();
    events.wait_closed();
    CHECK(events.reason_code() == "REJECTED");
  });
}

TEST_CASE("SEND of every size arrives whole in the RECV") {
  for_each_provider([](fabric::Provider& provider, const fabric::ConnectionOptions& options) {
    constexpr size_t kMax = 512 * 1024;
    std::unique_ptr<Buffer> inbox;
    PairOptions pair_opts = pair_options(options);
    pair_opts.prepare = [&](fabric::Connection&, fabric::Connection& passive) {
      inbox = std::make_unique<Buffer>(passive, kMax);
      passive.post_recv(recv_of(*inbox));
    };
    Pair pair(provider, pair_opts);
    Buffer outbox(*pair.active, kMax);
    size_t count = 0;
    for (size_t size : {0, 1, 2, 3, 4, 15, 16, 17, 4095, 4096, 8191, 61439, 61440, 61441, 65535, 65536, 131072, 524287, 524288}) {
      CAPTURE(size);
      fabric::Bytes sent = pattern(size, size);
      std::copy(sent.begin(), sent.end(), outbox.bytes.begin());
      REQUIRE(pair.active->post_send(send_of(outbox, size, size)));
      pair.passive_events.wait_recvs(++count);
      pair.active_events.wait_sends(count);
      CHECK(pair.passive_events.recvs().back().byte_len == size);
      CHECK(pair.passive_events.recvs().back().status == Status::kSuccess);
      CHECK(pair.active_events.sends().back().wr_id == size);
      CHECK(std::equal(sent.begin(), sent.end(), inbox->bytes.begin()));
      pair.passive->post_recv(recv_of(*inbox));
    }
    pair.close();
  });
}

TEST_CASE("the passive end may send first, right behind its accept") {
  for_each_provider([](fabric::Provider& provider, const fabric::ConnectionOptions& options) {
    for (int round = 0; round < 10; ++round) {
      Acceptor acceptor(provider, options);
      Recorder active_events;
      Recorder passive_events;
      auto active = provider.connect_to(acceptor.endpoint(), options, active_events);
      Buffer inbox(*active, 16);
      active->post_recv(recv_of(inbox));
      active->connect({});
      auto passive = acceptor.next()->take(options, passive_events);
      Buffer outbox(*passive, 16, 0, 0x5a);
      passive->post_send(send_of(outbox, 16));
      passive->accept(pattern(8, 1));
      active_events.wait_recvs(1);
      CHECK(inbox.bytes == outbox.bytes);
      active->close();
      passive->close();
    }
  });
}

TEST_CASE("WRITE places bytes at any offset and of any size, and nothing beside them") {
  for_each_provider([](fabric::Provider& provider, const fabric::ConnectionOptions& options) {
    constexpr size_t kSize = 1 << 20;
    for (size_t size : {size_t{0}, size_t{1}, size_t{3}, size_t{4096}, size_t{61440}, size_t{61441}, size_t{200001}, kSize - 10}) {
      CAPTURE(size);
      Rig rig(provider, options, kSize);
      Buffer source(*rig.pair.active, kSize);
      source.fill(pattern(kSize, size));
      REQUIRE(rig.pair.active->post_send(rdma_of(Opcode::kRdmaWrite, source, 3, rig.remote->address(7), rig.remote->region->rkey(), size)));
      rig.sync();
      fabric::Bytes expected(kSize, 0xee);
      std::copy_n(source.bytes.begin() + 3, size, expected.begin() + 7);
      CHECK(rig.remote->bytes == expected);
      CHECK(rig.pair.passive->counters().write_bytes_placed == size);
    }
  });
}

TEST_CASE("a SEND is delivered after every WRITE before it") {
  for_each_provider([](fabric::Provider& provider, const fabric::ConnectionOptions& options) {
    constexpr size_t kSize = 1 << 20;
    constexpr size_t kPiece = 4096;
    Rig rig(provider, options, kSize);
    Buffer source(*rig.pair.active, kSize);
    source.fill(pattern(kSize, 5));
    for (size_t at = 0; at < kSize; at += kPiece) {
      while (!rig.pair.active->post_send(rdma_of(Opcode::kRdmaWrite, source, at, rig.remote->address(at), rig.remote->region->rkey(), kPiece, at))) {
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
  for_each_provider([](fabric::Provider& provider, const fabric::ConnectionOptions& options) {
    constexpr size_t kSize = 1 << 20;
    constexpr size_t kReads = 50;
    Rig rig(provider, options, kSize);
    rig.remote->fill(pattern(kSize, 9));
    Buffer sink(*rig.pair.active, kSize, fabric::kAccessLocalWrite);
    size_t piece = kSize / kReads;
    for (size_t index = 0; index < kReads; ++index) {
      REQUIRE(rig.pair.active->post_send(rdma_of(Opcode::kRdmaRead, sink, index * piece, rig.remote->address(index * piece),
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
  for_each_provider([](fabric::Provider& provider, const fabric::ConnectionOptions& options) {
    constexpr size_t kSize = 4 << 20;
    Rig rig(provider, options, kSize);
    rig.remote->fill(pattern(kSize, 4));
    Buffer back(*rig.pair.active, kSize, kRemoteAll);
    Buffer sink(*rig.pair.active, kSize, fabric::kAccessLocalWrite);
    REQUIRE(rig.pair.active->post_send(rdma_of(Opcode::kRdmaRead, sink, 0, 0, 0, 0, 1)));
    REQUIRE(rig.pair.active->post_send(rdma_of(Opcode::kRdmaRead, sink, 0, rig.remote->address(), rig.remote->region->rkey(), kSize, 2)));
    REQUIRE(rig.pair.passive->post_send(rdma_of(Opcode::kRdmaWrite, *rig.remote, 0, back.address(), back.region->rkey(), kSize)));
    Buffer done(*rig.pair.active, 16);
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
  for_each_provider([](fabric::Provider& provider, const fabric::ConnectionOptions& options) {
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
    SUBCASE("the key of another connection") {
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
    SUBCASE("READ without remote read access") {
      Rig rig(provider, options, kSize, fabric::kAccessLocalWrite | fabric::kAccessRemoteWrite);
      rig.expect_refused(rdma_of(Opcode::kRdmaRead, *rig.local, 0, rig.remote->address(), rig.remote->region->rkey(), 64));
    }
    SUBCASE("READ out of bounds") {
      Rig rig(provider, options, kSize);
      rig.expect_refused(rdma_of(Opcode::kRdmaRead, *rig.local, 0, rig.remote->address(kSize - 63), rig.remote->region->rkey(), 64));
    }
  });
}

TEST_CASE("keys are random") {
  for_each_provider([](fabric::Provider& provider, const fabric::ConnectionOptions& options) {
    Pair pair(provider, pair_options(options));
    Buffer buffer(*pair.active, 64);
    std::vector<uint32_t> keys;
    std::vector<std::unique_ptr<fabric::MemoryRegion>> regions;
    for (int count = 0; count < 32; ++count) {
      regions.push_back(pair.active->register_memory(buffer.address(), 64, kRemoteAll));
      keys.push_back(regions.back()->rkey());
    }
    std::sort(keys.begin(), keys.end());
    CHECK(std::adjacent_find(keys.begin(), keys.end()) == keys.end());
    CHECK(keys.back() - keys.front() > 0x10000000);
    regions.clear();
    pair.close();
  });
}

TEST_CASE("bad local buffers are refused when they are posted") {
  for_each_provider([](fabric::Provider& provider, const fabric::ConnectionOptions& options) {
    Pair pair(provider, pair_options(options));
    Buffer buffer(*pair.active, 4096, 0);
    auto code_of = [](auto&& call) {
      try {
        call();
      } catch (const Error& error) {
        return error.code();
      }
      return std::string("none");
    };
    fabric::SendWorkRequest request = send_of(buffer, 4097);
    CHECK(code_of([&] { pair.active->post_send(request); }) == "INVALID_ARGUMENT");
    request = send_of(buffer, 4096);
    request.lkey ^= 1;
    CHECK(code_of([&] { pair.active->post_send(request); }) == "INVALID_ARGUMENT");
    request = send_of(buffer, 2);
    request.address = UINT64_MAX;
    CHECK(code_of([&] { pair.active->post_send(request); }) == "INVALID_ARGUMENT");
    CHECK(code_of([&] { pair.active->post_recv(recv_of(buffer)); }) == "INVALID_ARGUMENT");
    request = rdma_of(Opcode::kRdmaRead, buffer, 0, 0, 0, 16);
    CHECK(code_of([&] { pair.active->post_send(request); }) == "INVALID_ARGUMENT");
    CHECK(code_of([&] { pair.active->register_memory(UINT64_MAX - 10, 20, 0); }) == "REGISTER_FAILED");
    pair.close();
    CHECK(code_of([&] { pair.active->post_send(send_of(buffer, 16)); }) == "CONNECTION_CLOSED");
  });
}

TEST_CASE("queues are bounded, and unsignaled requests hold their place until a signaled one completes") {
  for_each_provider([](fabric::Provider& provider, fabric::ConnectionOptions options) {
    options.max_send_wr = 4;
    options.max_recv_wr = 2;
    Rig rig(provider, options, 4096);
    fabric::SendWorkRequest quiet = rig.write(0, 0, 16);
    quiet.signaled = false;
    for (int count = 0; count < 4; ++count) CHECK(rig.pair.active->post_send(quiet));
    CHECK_FALSE(rig.pair.active->post_send(quiet));
    CHECK(rig.pair.passive->post_recv(recv_of(*rig.inbox)));
    CHECK_FALSE(rig.pair.passive->post_recv(recv_of(*rig.inbox)));
  });
  for_each_provider([](fabric::Provider& provider, fabric::ConnectionOptions options) {
    options.max_send_wr = 4;
    Rig rig(provider, options, 4096);
    fabric::SendWorkRequest quiet = rig.write(0, 0, 16);
    quiet.signaled = false;
    for (size_t round = 1; round < 50; ++round) {
      for (int count = 0; count < 3; ++count) REQUIRE(rig.pair.active->post_send(quiet));
      REQUIRE(rig.pair.active->post_send(rig.write(0, 0, 16, round)));
      rig.pair.active_events.wait_sends(round);
    }
    CHECK(rig.pair.active_events.sends().size() == 49);
  });
}

TEST_CASE("the peer's WRITEs go on while other regions come and go") {
  for_each_provider([](fabric::Provider& provider, const fabric::ConnectionOptions& options) {
    constexpr size_t kSize = 1 << 20;
    Rig rig(provider, options, kSize);
    Buffer source(*rig.pair.active, kSize);
    source.fill(pattern(kSize, 8));
    std::atomic<bool> done{false};
    std::thread churn([&] {
      fabric::Bytes memory(4096);
      while (!done) {
        auto here = rig.pair.passive->register_memory(reinterpret_cast<uintptr_t>(memory.data()), memory.size(), kRemoteAll);
        auto there = rig.pair.active->register_memory(reinterpret_cast<uintptr_t>(memory.data()), memory.size(), kRemoteAll);
      }
    });
    for (size_t round = 1; round <= 20; ++round) {
      REQUIRE(rig.pair.active->post_send(rdma_of(Opcode::kRdmaWrite, source, 0, rig.remote->address(), rig.remote->region->rkey(), kSize, round)));
      rig.pair.active_events.wait_sends(round);
    }
    rig.sync();
    done = true;
    churn.join();
    CHECK(rig.remote->bytes == source.bytes);
  });
}
