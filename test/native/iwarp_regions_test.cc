// Memory that is taken away while processing threads use it, and memory that lets them wait.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
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

namespace {

// Queue pairs of two domains that WRITE into one region without a pause.
struct Flood {
  static constexpr size_t kRails = 4;
  static constexpr size_t kSlot = 256 * 1024;
  struct Rail {
    Recorder active_events, passive_events;
    std::unique_ptr<fabric::QueuePair> active, passive;
    std::thread poster;
  };

  explicit Flood(bool crc) {
    fabric::QueuePairOptions options;
    options.crc = crc;
    options.max_send_wr = 16;
    Acceptor acceptor(*provider, options);
    for (Rail& rail : rails) {
      rail.active = here->create_queue_pair(options, rail.active_events);
      rail.passive = there->create_queue_pair(options, rail.passive_events);
      rail.active->connect(acceptor.endpoint(), {});
      rail.passive->accept(acceptor.next(), {}, true);
      rail.active->allow_large_segments();
      rail.active_events.wait_established();
      rail.passive_events.wait_established();
    }
    const uint32_t rkey = remote.region->rkey();
    for (size_t at = 0; at < kRails; ++at) {
      const auto write =
          rdma_of(fabric::Opcode::kRdmaWrite, local, at * kSlot, remote.address(at * kSlot), rkey, kSlot);
      rails[at].poster = std::thread([write, &by = *rails[at].active] {
        try {
          for (;;)
            if (!by.post_send(write)) std::this_thread::yield();
        } catch (const Error&) {
          // The queue pair has ended, or the memory is registered no more.
        }
      });
    }
    for (Rail& rail : rails)
      while (rail.passive->counters().write_bytes_placed < 4 * kSlot) std::this_thread::yield();
  }
  ~Flood() {
    for (Rail& rail : rails) rail.active_events.wait_closed();
    for (Rail& rail : rails) rail.poster.join();
    for (Rail& rail : rails) rail.active->close();
    for (Rail& rail : rails) rail.passive->close();
  }

  const std::unique_ptr<fabric::Provider> provider = iwarp::make_provider();
  const DomainPointer here = open_domain(*provider);
  const DomainPointer there = open_domain(*provider);
  Buffer local{here, kRails* kSlot};
  Buffer remote{there, kRails* kSlot, kRemoteAll};
  std::array<Rail, kRails> rails;
};

}  // namespace

TEST_CASE("memory that is taken away from queue pairs at full speed is not touched afterwards") {
  enum class Taken { kRemoteRights, kTarget, kSource };
  for (const bool crc : {false, true}) {
    for (const Taken taken : {Taken::kRemoteRights, Taken::kTarget, Taken::kSource}) {
      CAPTURE(crc);
      CAPTURE(static_cast<int>(taken));
      Flood flood(crc);
      Bytes& watched = taken == Taken::kSource ? flood.local.bytes : flood.remote.bytes;
      if (taken == Taken::kRemoteRights) flood.there->revoke_remote_access();
      if (taken == Taken::kTarget) flood.remote.region.reset();
      if (taken == Taken::kSource) flood.local.region.reset();
      std::fill(watched.begin(), watched.end(), 0xee);
      if (taken == Taken::kSource)
        for (Flood::Rail& rail : flood.rails) rail.active->close();
      for (Flood::Rail& rail : flood.rails) rail.active_events.wait_closed();
      for (Flood::Rail& rail : flood.rails) rail.passive->close();
      // Neither written any more, nor read: then the mark would have arrived.
      const Bytes& target = flood.remote.bytes;
      const auto marked = std::count(target.begin(), target.end(), 0xee);
      CHECK(static_cast<size_t>(marked) == (taken == Taken::kSource ? 0 : target.size()));
    }
  }
}
