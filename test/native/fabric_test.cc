// What every provider must do: connections, private data, SEND and RECV, queues. WRITE and READ:
// fabric_rdma_test.cc. Ends of connections: fabric_close_test.cc.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "fabric/address.h"
#include "support/providers.h"
#include "support/rig.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;
using fabric::Opcode;
using fabric::Status;

TEST_CASE("private data travels both ways") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    for (size_t size : {size_t{0}, size_t{1}, size_t{8}, size_t{56}}) {
      PairOptions with_data = pair_options(options);
      with_data.request_data = pattern(size, 1);
      with_data.reply_data = pattern(size, 2);
      Pair pair(provider, with_data);
      CHECK(carries(pair.request_data, with_data.request_data));
      CHECK(carries(pair.passive_events.private_data(), with_data.request_data));
      CHECK(carries(pair.active_events.private_data(), with_data.reply_data));
      if (is_software(provider)) CHECK(pair.active_events.private_data().size() == size);
      CHECK(pair.active->info().crc == options.crc);
      CHECK(pair.active->info().provider == provider.name());
    }
  });
}

TEST_CASE("a rejected peer learns so, with the private data, and once") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    Acceptor acceptor(provider, options);
    Recorder events;
    const DomainPointer domain = open_domain(provider);
    auto active = domain->create_queue_pair(options, events);
    active->connect(acceptor.endpoint(), {});
    auto request = acceptor.next();
    request->reject(pattern(8, 3));
    CHECK_THROWS_AS(request->reject({}), Error);
    events.wait_closed();
    CHECK(events.reason_code() == "REJECTED");
    CHECK(events.reason_text().find("8 bytes") != std::string::npos);
    CHECK_FALSE(events.established());
  });
}

TEST_CASE("a request that nobody takes is rejected") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    Acceptor acceptor(provider, options);
    Recorder events;
    const DomainPointer domain = open_domain(provider);
    auto active = domain->create_queue_pair(options, events);
    active->connect(acceptor.endpoint(), {});
    acceptor.next().reset();
    events.wait_closed();
    CHECK(events.reason_code() == "REJECTED");
  });
}

TEST_CASE("SEND of every size arrives whole in the RECV") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    constexpr size_t kMax = 512 * 1024;
    std::unique_ptr<Buffer> inbox;
    PairOptions pair_opts = pair_options(options);
    pair_opts.prepare = [&](Pair& made) {
      inbox = std::make_unique<Buffer>(made.passive_domain, kMax);
      made.passive->post_recv(recv_of(*inbox));
    };
    Pair pair(provider, pair_opts);
    Buffer outbox(pair.active_domain, kMax);
    size_t count = 0;
    for (size_t size : {0, 1, 2, 3, 4, 15, 16, 17, 4095, 4096, 8191, 61439, 61440, 61441, 65535, 65536,
                        131072, 524287, 524288}) {
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

TEST_CASE("the passive end may send first, right after its accept") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    for (int round = 0; round < 10; ++round) {
      Acceptor acceptor(provider, options);
      Recorder active_events;
      Recorder passive_events;
      const DomainPointer active_domain = open_domain(provider);
      const DomainPointer passive_domain = open_domain(provider);
      auto active = active_domain->create_queue_pair(options, active_events);
      Buffer inbox(active_domain, 16);
      active->post_recv(recv_of(inbox));
      active->connect(acceptor.endpoint(), {});
      auto passive = passive_domain->create_queue_pair(options, passive_events);
      Buffer outbox(passive_domain, 16, 0, 0x5a);
      passive->post_send(send_of(outbox, 16));
      passive->accept(acceptor.next(), pattern(8, 1), round % 2 == 0 && is_software(provider));
      active_events.wait_recvs(1);
      CHECK(active_events.recvs().back().status == Status::kSuccess);
      CHECK(active_events.recvs().back().byte_len == 16);
      CAPTURE(active_events.reason_text());
      CAPTURE(passive_events.reason_text());
      CHECK(inbox.bytes == outbox.bytes);
      active->close();
      passive->close();
    }
  });
}

TEST_CASE("bad local buffers are refused when they are posted") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    Pair pair(provider, pair_options(options));
    Buffer buffer(pair.active_domain, 4096, 0);
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
    CHECK(code_of([&] { pair.active_domain->register_memory(UINT64_MAX - 10, 20, 0); }) == "REGISTER_FAILED");
    pair.close();
    CHECK(code_of([&] { pair.active->post_send(send_of(buffer, 16)); }) == "CONNECTION_CLOSED");
  });
}

TEST_CASE("queues are bounded, and unsignaled requests hold their place until a signaled one completes") {
  for_each_provider([](fabric::Provider& provider, fabric::QueuePairOptions options) {
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
  for_each_provider([](fabric::Provider& provider, fabric::QueuePairOptions options) {
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

TEST_CASE("the host of an address is found again as a host, also of IPv6 and with its interface") {
  for (const std::string host : {"127.0.0.1", "::1", "fe80::1%lo"}) {
    CAPTURE(host);
    const auto found = fabric::resolve({host, 4444}, fabric::Lookup::kNumericOnly);
    REQUIRE(found.size() == 1);
    CHECK(fabric::host_of(found[0]) == host);
    const std::string text = fabric::to_string(found[0]);
    CHECK(text == (host == "127.0.0.1" ? host : "[" + host + "]") + ":4444");
  }
  CHECK(fabric::host_of({}).empty());
}
