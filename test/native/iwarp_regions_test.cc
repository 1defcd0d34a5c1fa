// Memory that is taken away while processing threads use it, and memory that lets them wait.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "iwarp/engine.h"
#include "support/held_pages.h"
#include "support/victim.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;

TEST_CASE("a region can be withdrawn while a processing thread waits for a page of it") {
  HeldPages pages(1);
  Victim victim;
  auto region = victim.domain->register_memory(pages.address(), pages.size(), kRemoteAll);
  victim.peer.send(fpdu(write_header(region->rkey(), pages.address()), pattern(100, 1)));
  pages.wait_touched();
  CHECK_FALSE(region->withdraw());
  CHECK_FALSE(region->withdraw());
  // Another region of that domain is not in use, but nobody can know it.
  auto other = victim.domain->register_memory(victim.region->address(), 4096, kRemoteAll);
  CHECK_FALSE(other->withdraw());
  std::atomic<bool> gone{false};
  std::thread closer([&] {
    region.reset();
    gone = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK_FALSE(gone.load());
  pages.release();
  closer.join();
  other.reset();
  // What it does not use is gone at once.
  auto idle = victim.domain->register_memory(pages.address(), pages.size(), kRemoteAll);
  victim.queue_pair->close();
  CHECK(idle->withdraw());
}

TEST_CASE("a SEND with invalidate completes when no other queue pair places bytes in the region any more") {
  HeldPages pages(1);
  Victim victim;
  auto region = victim.domain->register_memory(pages.address(), pages.size(), kRemoteAll);
  RawPeer peer(victim.acceptor.endpoint());
  peer.send(iwarp::encode(iwarp::MpaFrame{}));
  Recorder events;
  const auto other = victim.domain->create_queue_pair({}, events);
  other->post_recv(recv_of(*victim.inbox));
  other->accept(victim.acceptor.next(), {}, true);
  peer.receive_mpa(iwarp::MpaKind::kReply);
  events.wait_established();
  victim.peer.send(fpdu(write_header(region->rkey(), pages.address()), pattern(100, 1)));
  pages.wait_touched();
  iwarp::DdpHeader invalidate = send_header(1);
  invalidate.opcode = static_cast<uint8_t>(iwarp::RdmapOpcode::kSendInvalidate);
  invalidate.invalidate_stag = region->rkey();
  peer.send(fpdu(invalidate, {}));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  CHECK(events.recvs().empty());
  pages.release();
  events.wait_recvs(1);
  other->close();
  victim.queue_pair->close();
}

TEST_CASE("a listener takes requests while every processing thread waits for memory") {
  const size_t count = iwarp::Engine::shared()->threads();
  std::vector<std::unique_ptr<HeldPages>> pages;
  std::vector<std::unique_ptr<Victim>> victims;
  std::vector<std::unique_ptr<fabric::MemoryRegion>> regions;
  for (size_t at = 0; at < count; ++at) victims.push_back(std::make_unique<Victim>());
  for (const auto& victim : victims) {
    pages.push_back(std::make_unique<HeldPages>(1));
    regions.push_back(
        victim->domain->register_memory(pages.back()->address(), pages.back()->size(), kRemoteAll));
    victim->peer.send(fpdu(write_header(regions.back()->rkey(), pages.back()->address()), pattern(9, 1)));
    pages.back()->wait_touched();
  }
  Acceptor acceptor(*victims.front()->provider);
  RawPeer peer(acceptor.endpoint());
  peer.send(iwarp::encode(iwarp::MpaFrame{}));
  acceptor.next()->reject({});
  CHECK(peer.receive_mpa(iwarp::MpaKind::kReply).reject);
  for (const auto& each : pages) each->release();
  for (const auto& victim : victims) victim->queue_pair->close();
  regions.clear();
}

TEST_CASE("a processing thread that waits for memory is passed over while there is another") {
  iwarp::Engine engine(2);
  const int memory = 0;
  const auto pause = [] { std::this_thread::sleep_for(std::chrono::milliseconds(150)); };
  iwarp::Processor& first = engine.least_loaded();
  first.section.enter(&memory);
  CHECK(&engine.least_loaded() == &first);  // it may have begun just now
  pause();
  iwarp::Processor& second = engine.least_loaded();
  CHECK(&second != &first);
  second.load = 5;
  CHECK(&engine.least_loaded() == &second);
  second.section.enter(&memory);
  engine.least_loaded();
  pause();
  CHECK(&engine.least_loaded() == &first);  // both wait, and it has less to do
  second.section.leave();
  CHECK(&engine.least_loaded() == &second);
  // Another use than at the last look, although it is open again.
  first.section.leave();
  first.section.enter(&memory);
  CHECK(&engine.least_loaded() == &first);
  first.section.leave();
}
