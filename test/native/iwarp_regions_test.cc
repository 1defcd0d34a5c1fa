// Memory that is taken away while processing threads use it, and memory that lets them wait.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>

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
