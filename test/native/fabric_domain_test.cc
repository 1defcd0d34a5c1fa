// What the queue pairs of one domain share: memory, keys, threads; and what is not theirs.
#include <doctest/doctest.h>

#include <array>

#include "support/process_entries.h"
#include "support/providers.h"
#include "support/rig.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;

namespace {

// One queue pair at each end; the passive one takes a SEND into a slot of `inbox`.
struct Rail {
  Recorder active_events;
  Recorder passive_events;
  std::unique_ptr<fabric::QueuePair> active;
  std::unique_ptr<fabric::QueuePair> passive;

  void connect(Acceptor& acceptor, fabric::Domain& here, const DomainPointer& there,
               const fabric::QueuePairOptions& options, const Buffer& inbox) {
    active = here.create_queue_pair(options, active_events);
    active->connect(acceptor.endpoint(), {});
    passive = there->create_queue_pair(options, passive_events);
    REQUIRE(passive->post_recv(recv_of(inbox)));
    passive->accept(acceptor.next(), {}, true);
    active_events.wait_established();
    passive_events.wait_established();
  }
  void close() {
    active->close();
    passive->close();
  }
};

}  // namespace

TEST_CASE("queue pairs of one domain carry WRITEs under one key, and each its own SENDs") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    constexpr size_t kSlot = 64 << 10;
    constexpr size_t kRails = 3;
    Acceptor acceptor(provider, options);
    const DomainPointer here = open_domain(provider);
    const DomainPointer there = open_domain(provider);
    Buffer local(here, kRails * kSlot);
    Buffer remote(there, kRails * kSlot, kRemoteAll, 0xee);
    Buffer inbox(there, 64);
    local.fill(pattern(kRails * kSlot, 7));
    std::array<Rail, kRails> rails;
    for (Rail& rail : rails) rail.connect(acceptor, *here, there, options, inbox);
    const uint32_t rkey = remote.region->rkey();
    for (size_t at = 0; at < kRails; ++at) {
      const auto write =
          rdma_of(fabric::Opcode::kRdmaWrite, local, at * kSlot, remote.address(at * kSlot), rkey, kSlot);
      REQUIRE(rails[at].active->post_send(write));
      REQUIRE(rails[at].active->post_send(send_of(local, 0, 2)));
    }
    for (Rail& rail : rails) rail.passive_events.wait_recvs(1);
    CHECK(remote.bytes == local.bytes);
    // One that ends leaves the others, their memory and their keys as they are.
    rails[0].close();
    std::fill(remote.bytes.begin(), remote.bytes.end(), 0);
    REQUIRE(rails[1].passive->post_recv(recv_of(inbox, 2)));
    REQUIRE(rails[1].active->post_send(
        rdma_of(fabric::Opcode::kRdmaWrite, local, 0, remote.address(), rkey, kRails * kSlot)));
    REQUIRE(rails[1].active->post_send(send_of(local, 0, 2)));
    rails[1].passive_events.wait_recvs(2);
    CHECK(remote.bytes == local.bytes);
    for (Rail& rail : rails) rail.close();
    for (Rail& rail : rails) CHECK(rail.active_events.late_events() + rail.passive_events.late_events() == 0);
  });
}

TEST_CASE("a domain that is bound to a request has keys that can travel with the answer") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    Acceptor acceptor(provider, options);
    const DomainPointer here = open_domain(provider);
    const DomainPointer there = open_domain(provider);
    Buffer local(here, 4096);
    Buffer before(there, 4096, kRemoteAll, 0xee);
    Buffer inbox(there, 64);
    local.fill(pattern(4096, 7));
    Rail rail;
    rail.active = here->create_queue_pair(options, rail.active_events);
    rail.active->connect(acceptor.endpoint(), {});
    auto request = acceptor.next();
    there->bind(*request);
    there->bind(*request);  // once more does no harm
    Buffer after(there, 4096, kRemoteAll, 0xee);
    const std::array<uint32_t, 2> keys = {before.region->rkey(), after.region->rkey()};
    rail.passive = there->create_queue_pair(options, rail.passive_events);
    REQUIRE(rail.passive->post_recv(recv_of(inbox)));
    rail.passive->accept(std::move(request), {}, true);
    rail.active_events.wait_established();
    for (Buffer* const into : {&before, &after}) {
      REQUIRE(rail.active->post_send(rdma_of(fabric::Opcode::kRdmaWrite, local, 0, into->address(),
                                             keys[into == &after ? 1 : 0], 4096)));
    }
    REQUIRE(rail.active->post_send(send_of(local, 0, 2)));
    rail.passive_events.wait_recvs(1);
    CHECK(before.bytes == local.bytes);
    CHECK(after.bytes == local.bytes);
    rail.close();
  });
}

TEST_CASE("rights that a domain takes back are taken from every queue pair of it") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    Acceptor acceptor(provider, options);
    const DomainPointer here = open_domain(provider);
    const DomainPointer there = open_domain(provider);
    Buffer local(here, 4096);
    Buffer remote(there, 4096, kRemoteAll, 0xee);
    Buffer inbox(there, 64);
    std::array<Rail, 2> rails;
    for (Rail& rail : rails) rail.connect(acceptor, *here, there, options, inbox);
    const uint32_t rkey = remote.region->rkey();
    there->revoke_remote_access();
    for (Rail& rail : rails) {
      REQUIRE(rail.active->post_send(
          rdma_of(fabric::Opcode::kRdmaWrite, local, 0, remote.address(), rkey, 4096)));
      rail.active_events.wait_closed();
    }
    CHECK(remote.bytes == fabric::Bytes(4096, 0xee));
    for (Rail& rail : rails) rail.close();
  });
}

TEST_CASE("64 queue pairs of a domain need no thread more than the first") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    constexpr size_t kRails = 64;
    Acceptor acceptor(provider, options);
    const DomainPointer here = open_domain(provider);
    const DomainPointer there = open_domain(provider);
    Buffer local(here, 4096);
    Buffer inbox(there, 64);
    std::vector<Rail> rails(kRails);
    rails[0].connect(acceptor, *here, there, options, inbox);
    // A thread that made the connection may be about to end.
    const auto settle = [](size_t most) {
      for (int pause = 0; pause < 500 && threads() > most; ++pause)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      return threads();
    };
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    const size_t threads_before = threads();
    const size_t descriptors_before = descriptors();
    for (size_t at = 1; at < kRails; ++at) rails[at].connect(acceptor, *here, there, options, inbox);
    for (Rail& rail : rails) REQUIRE(rail.active->post_send(send_of(local, 64)));
    for (Rail& rail : rails) rail.passive_events.wait_recvs(1);
    CHECK(settle(threads_before) <= threads_before);
    // Both ends are here.
    CHECK(descriptors() <= descriptors_before + 2 * 2 * (kRails - 1));
    for (Rail& rail : rails) rail.close();
  });
}

TEST_CASE("what is rejected costs no thread and leaves no descriptor, and the next one is served") {
  for_each_provider([](fabric::Provider& provider, const fabric::QueuePairOptions& options) {
    Acceptor acceptor(provider, options);
    const DomainPointer here = open_domain(provider);
    for (int round = 0; round < 20; ++round) {
      Recorder events;
      const auto refused = here->create_queue_pair(options, events);
      refused->connect(acceptor.endpoint(), {});
      const auto request = acceptor.next();
      const size_t before = descriptors();
      request->reject(pattern(8, 3));
      CHECK_THROWS_AS(request->reject({}), Error);
      // On a device the kernel lets go of it in its own time.
      for (int pause = 0; !is_software(provider) && pause < 500 && descriptors() >= before; ++pause)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      CHECK(descriptors() < before);
      events.wait_closed();
      CHECK(events.reason_code() == "REJECTED");
    }
    const DomainPointer there = open_domain(provider);
    Buffer inbox(there, 64);
    Rail rail;
    rail.connect(acceptor, *here, there, options, inbox);
    rail.close();
  });
}
