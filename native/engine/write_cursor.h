// Takes the pages of a job from its bitmap, as the WRITEs that carry them. Guarded by the lock of its owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "engine/write_job.h"
#include "fabric/types.h"

namespace rdma_migrate::engine {

// A part of a job's block, within one of its spans.
struct Extent {
  uint64_t offset = 0;
  uint64_t length = 0;
  size_t span = 0;
};

class WriteCursor {
 public:
  explicit WriteCursor(const WriteJob& job) : job_(job) { enter(0); }

  // The next WRITE: neighbouring pages of at most `limit` bytes, or one page, or a part of a page that is
  // larger. The same one until it is taken. Nothing: no bit is left.
  std::optional<Extent> next(uint64_t limit);
  void take(const Extent& write);
  // Looks no further than the next bit.
  bool at_end();

 private:
  void enter(size_t span);
  // Goes to the next bit that is set. False: there is none in this span and those after it.
  bool seek();
  bool take_bits(uint64_t limit);

  const WriteJob& job_;
  size_t span_ = 0;
  uint64_t page_ = 0;  // the span's bits before it have been taken
  uint64_t end_ = 0;   // of the span
  Extent rest_;        // of what was taken, what is still to be sent
};

// The WRITE of an extent from the job's own memory; signaled or not and wr_id are the caller's.
fabric::SendWorkRequest write_request(const WriteJob& job, const Extent& extent);

// Pages that are complete with this extent: one that travels in parts counts with its last.
uint64_t pages_ended(const WriteJob& job, const Extent& extent);

}  // namespace rdma_migrate::engine
