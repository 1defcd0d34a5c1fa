// Copies of pages on their way to the peer, for jobs that must know exactly what was sent
// (WriteJob::digests).
#pragma once

#include <cstdint>
#include <memory>

#include "engine/slab.h"
#include "fabric/fabric.h"

namespace rdma_migrate::engine {

// A registered ring. A place is used again only when the WRITEs from it have completed: places are taken in
// the order of posting on one queue pair, and completions come in that order. Not thread-safe.
class Staging {
 public:
  // bytes: at least four times the largest place. Registers. Throws Error: OUT_OF_MEMORY, REGISTER_FAILED,
  // LOCKED_MEMORY_LIMIT.
  Staging(fabric::Domain& domain, uint64_t bytes);

  // Whether take() may be called.
  bool has_room(uint64_t length) const { return place_for(length) + length - free_ <= slab_.size(); }
  // A place of `length` bytes in one piece: the position that at() goes with.
  uint64_t take(uint64_t length);
  // The place that was taken last, unused.
  void give_back(uint64_t position) { taken_ = position; }
  // Everything that was taken so far lies before this; release(taken()) gives it back.
  uint64_t taken() const { return taken_; }
  void release(uint64_t position) { free_ = position; }

  uint8_t* at(uint64_t position) const { return slab_.data() + position % slab_.size(); }
  uint32_t lkey() const { return region_->lkey(); }

 private:
  uint64_t place_for(uint64_t length) const;

  const Slab slab_;
  const std::unique_ptr<fabric::MemoryRegion> region_;
  // Positions only grow.
  uint64_t taken_ = 0;
  uint64_t free_ = 0;
};

// Copies memory that a guest may write meanwhile. length: a multiple of 8. False: it cannot be read
// (memory::fault_address()).
bool copy_live(uint8_t* to, const uint8_t* from, uint64_t length);

}  // namespace rdma_migrate::engine
