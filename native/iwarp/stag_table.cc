#include "iwarp/stag_table.h"

#include <sys/random.h>

#include <cerrno>
#include <chrono>
#include <string>
#include <thread>

namespace rdma_migrate::iwarp {
namespace {

constexpr unsigned kRemoteRights = fabric::kAccessRemoteRead | fabric::kAccessRemoteWrite;

uint32_t random_stag() {
  uint32_t stag = 0;
  if (getrandom(&stag, sizeof stag, 0) != sizeof stag) {
    throw Error("REGISTER_FAILED", "cannot draw a random STag from the kernel", errno);
  }
  return stag;
}

}  // namespace

void IoSection::wait_for_open() const {
  constexpr int kSpins = 200;  // a section lasts some microseconds, unless it waits for a page from a disk
  uint64_t seen = state_.load(std::memory_order_seq_cst);
  if ((seen & 1) == 0) return;
  for (int spin = 0; state_.load(std::memory_order_acquire) == seen; ++spin) {
    if (spin < kSpins) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }
}

uint32_t StagTable::add(uint64_t address, uint64_t length, unsigned access) {
  if (length > UINT64_MAX - address) {
    throw Error("REGISTER_FAILED", "the range of " + std::to_string(length) + " bytes at " +
                                       std::to_string(address) + " does not fit into the address space");
  }
  std::lock_guard lock(mutex_);
  if (remote_revoked_ && (access & kRemoteRights) != 0)
    throw Error("REGISTER_FAILED", "the connection gives its peer no rights to memory any more");
  for (;;) {
    uint32_t stag = random_stag();
    // 0 is what an unset key looks like.
    if (stag != 0 && regions_.try_emplace(stag, Region{stag, address, length, access}).second) return stag;
  }
}

void StagTable::remove(uint32_t stag) {
  {
    std::lock_guard lock(mutex_);
    if (regions_.erase(stag) == 0) return;
    generation_.fetch_add(1, std::memory_order_seq_cst);
  }
  receiving.wait_for_open();
  sending.wait_for_open();
}

bool StagTable::invalidate(uint32_t stag) {
  std::lock_guard lock(mutex_);
  auto found = regions_.find(stag);
  if (found == regions_.end() || (found->second.access & kRemoteRights) == 0) return false;
  found->second.access &= ~kRemoteRights;
  generation_.fetch_add(1, std::memory_order_seq_cst);
  return true;
}

void StagTable::revoke_remote() {
  {
    std::lock_guard lock(mutex_);
    remote_revoked_ = true;
    for (auto& [stag, region] : regions_) region.access &= ~kRemoteRights;
    generation_.fetch_add(1, std::memory_order_seq_cst);
  }
  receiving.wait_for_open();
  sending.wait_for_open();
}

std::optional<Region> StagTable::find(uint32_t stag) const {
  std::lock_guard lock(mutex_);
  auto found = regions_.find(stag);
  if (found == regions_.end()) return std::nullopt;
  return found->second;
}

}  // namespace rdma_migrate::iwarp
