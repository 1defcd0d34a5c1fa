// Which pages of a VM's blocks are accounted for: with content, as zeros, or with a reason why they need not
// come. This decides whether a VM is called whole.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "memory/bitmap.h"

namespace rdma_migrate::memory {

class Coverage {
 public:
  struct Missing {
    size_t block = 0;
    uint64_t pages = 0;
    uint64_t first = 0;  // offset in bytes of the first of them
  };

  // The lengths of the blocks, in bytes; a last page may be short. Costs one bit per page, and only where
  // pages were added. Throws Error: INVALID_ARGUMENT (an empty block, a page size that is not a power of
  // two), OUT_OF_MEMORY.
  Coverage(const std::vector<uint64_t>& lengths, uint64_t page_size);

  uint64_t page_size() const { return uint64_t{1} << shift_; }
  size_t blocks() const { return blocks_.size(); }
  uint64_t length(size_t block) const { return blocks_[block].length; }

  // Adds the whole pages of a range of a block, not those that it covers in part. Any thread. Throws
  // Error("INVALID_ARGUMENT") when the range leaves the block.
  void add(size_t block, uint64_t offset, uint64_t length);

  // What was added of each `pages_per_cell` pages of a block: Bitmap::shares. Throws
  // Error("INVALID_ARGUMENT").
  std::vector<uint8_t> shares(size_t block, uint64_t pages_per_cell) const;

  // The blocks with pages that were not added, in order. What was added before the call is seen.
  std::vector<Missing> missing() const;

 private:
  struct Block {
    uint64_t length = 0;
    std::unique_ptr<Bitmap> told;
  };

  unsigned shift_;
  std::vector<Block> blocks_;
};

}  // namespace rdma_migrate::memory
