#include "iwarp/region_table.h"

#include <sys/random.h>

#include <cerrno>
#include <string>

namespace rdma_migrate::iwarp {
namespace {

uint32_t random_stag() {
  uint32_t stag = 0;
  if (getrandom(&stag, sizeof stag, 0) != sizeof stag)
    throw Error("REGISTER_FAILED", "cannot draw a random STag from the kernel", errno);
  return stag;
}

}  // namespace

uint32_t RegionTable::add(uint64_t address, uint64_t length, unsigned access, fabric::Backing* backing) {
  std::lock_guard lock(mutex_);
  for (;;) {
    const uint32_t stag = random_stag();
    if (try_add({stag, address, address, length, access, backing})) return stag;
  }
}

void RegionTable::add_as(uint32_t stag, uint64_t wire_base, uint64_t address, uint64_t length,
                         unsigned access, fabric::Backing* backing) {
  std::lock_guard lock(mutex_);
  if (!try_add({stag, wire_base, address, length, access, backing})) {
    throw Error("REGISTER_FAILED",
                "the key " + std::to_string(stag) + " of a region is 0, or in use in this domain");
  }
}

bool RegionTable::try_add(const Region& region) {
  if (region.length > UINT64_MAX - region.address || region.length > UINT64_MAX - region.wire_base) {
    throw Error("REGISTER_FAILED", "the range of " + std::to_string(region.length) + " bytes at " +
                                       std::to_string(region.address) +
                                       " does not fit into the address space");
  }
  if (remote_revoked_ && (region.access & fabric::kRemoteAccess) != 0)
    throw Error("REGISTER_FAILED", "the domain gives its peers no rights to memory any more");
  // 0 is what an unset key looks like.
  return region.stag != 0 && regions_.try_emplace(region.stag, region).second;
}

bool RegionTable::remove(uint32_t stag) {
  {
    std::lock_guard lock(mutex_);
    if (regions_.erase(stag) == 0) return true;
    generation_.fetch_add(1, std::memory_order_seq_cst);
  }
  return !engine_->is_open(this);
}

bool RegionTable::invalidate(uint32_t stag) {
  {
    std::lock_guard lock(mutex_);
    const auto found = regions_.find(stag);
    if (found == regions_.end() || (found->second.access & fabric::kRemoteAccess) == 0) return false;
    found->second.access &= ~fabric::kRemoteAccess;
    generation_.fetch_add(1, std::memory_order_seq_cst);
  }
  wait_until_left();
  return true;
}

void RegionTable::revoke_remote() {
  {
    std::lock_guard lock(mutex_);
    remote_revoked_ = true;
    for (auto& [stag, region] : regions_) region.access &= ~fabric::kRemoteAccess;
    generation_.fetch_add(1, std::memory_order_seq_cst);
  }
  wait_until_left();
}

void RegionTable::observe_placement(std::shared_ptr<fabric::PlacementObserver> observer) {
  std::lock_guard lock(mutex_);
  if (placement_owner_) throw Error("INVALID_ARGUMENT", "the placement of this domain is observed already");
  placement_owner_ = std::move(observer);
  placement_.store(placement_owner_.get(), std::memory_order_release);
}

std::optional<Region> RegionTable::find(uint32_t stag) const {
  std::lock_guard lock(mutex_);
  const auto found = regions_.find(stag);
  if (found == regions_.end()) return std::nullopt;
  return found->second;
}

}  // namespace rdma_migrate::iwarp
