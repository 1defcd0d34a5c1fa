// Takes the dirty log that a VMM or vhost keeps in memory shared with this process.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "dirty/tracker.h"

namespace rdma_migrate::dirty {

// One block's log: little-endian 64-bit words, bit i of word w is page 64 w + i of log_page_size bytes, as
// in KVM's dirty log and vhost's. Each writer of guest memory sets the bit after its write, atomically;
// each word's bits are taken with one exchange, so none is lost.
struct DirtyLog {
  int fd = -1;  // of the shared memory (it is duplicated), or -1: it is already mapped in this process
  uint64_t address = 0;           // without fd: of the first word; it stays mapped until stop()
  uint64_t offset = 0;            // bytes, of the first word in the file; a multiple of 8
  uint64_t log_page_size = 4096;  // a power of two; vhost: 4096. Smaller or larger than the block's is fine
};

// Memory of a log, mapped.
class LogMemory;

class BitmapTracker final : public Tracker {
 public:
  // One log per block. Throws Error: INVALID_ARGUMENT (a log that is too short, misplaced, not mapped or not
  // writable), OUT_OF_MEMORY.
  BitmapTracker(Blocks blocks, const std::vector<DirtyLog>& logs);
  ~BitmapTracker() override;

 private:
  void begin() override;
  uint64_t gather(Bitmaps bitmaps) override;
  void end() noexcept override;

  uint64_t take(size_t block, memory::Bitmap* dirty);

  std::vector<std::unique_ptr<LogMemory>> logs_;
};

}  // namespace rdma_migrate::dirty
