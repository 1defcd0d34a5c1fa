// Copies of pages on their way to the peer, for jobs that must know exactly what was sent
// (WriteJob::digests).
#pragma once

#include <cstdint>
#include <memory>

#include "fabric/fabric.h"

namespace rdma_migrate::engine {

// A registered ring. A place is used again only when the WRITE from it has completed: places are taken in the
// order of posting, and completions come in that order. Not thread-safe but for at().
class Staging {
 public:
  // As much as may be under way: the ring never holds up the writer more than the wire does.
  static constexpr uint64_t kBytes = 16 * 1024 * 1024;

  // Registers. Throws Error: OUT_OF_MEMORY, REGISTER_FAILED, LOCKED_MEMORY_LIMIT.
  explicit Staging(fabric::Connection& connection);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Whether take() may be called. length: at most a quarter of the ring, so that a writer that signals often
  // enough can never wait for itself.
  bool has_room(uint64_t length) const { return place_for(length) + length - free_ <= kBytes; }
  // A place of `length` bytes in one piece: the position that at() and lkey() go with.
  uint64_t take(uint64_t length);
  // The place that was taken last, unused.
  void give_back(uint64_t position) { taken_ = position; }
  // Everything that was taken so far lies before this; release(taken()) gives it back.
  uint64_t taken() const { return taken_; }
  void release(uint64_t position) { free_ = position; }

  uint8_t* at(uint64_t position) const { return data_ + position % kBytes; }
  uint32_t lkey() const { return region_->lkey(); }

 private:
  uint64_t place_for(uint64_t length) const;

  uint8_t* data_;
  std::unique_ptr<fabric::MemoryRegion> region_;
  // Positions only grow.
  uint64_t taken_ = 0;
  uint64_t free_ = 0;
};

// Copies memory that a guest may write meanwhile. length: a multiple of 8. False: it cannot be read
// (memory::fault_address()).
bool copy_live(uint8_t* to, const uint8_t* from, uint64_t length);

}  // namespace rdma_migrate::engine
