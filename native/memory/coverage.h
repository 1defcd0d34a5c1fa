// Which pages of a VM's blocks have been told of: with content, as zeros, or with a reason why they need not
// come. Whoever says that a VM is whole asks here.
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

  // The lengths of the blocks, in bytes; a last page may be short. Costs one bit a page, and only where pages
  // were told. Throws Error: INVALID_ARGUMENT (an empty block, a page size that is no power of two),
  // OUT_OF_MEMORY.
  Coverage(const std::vector<uint64_t>& lengths, uint64_t page_size);

  uint64_t page_size() const { return uint64_t{1} << shift_; }
  size_t blocks() const { return blocks_.size(); }
  uint64_t length(size_t block) const { return blocks_[block].length; }

  // The whole pages of a range of a block; a page that is told in part is not. Any thread. Throws
  // Error("INVALID_ARGUMENT") when the range leaves the block.
  void add(size_t block, uint64_t offset, uint64_t length);

  // The blocks with pages that were not told, in order. What was added before the call is seen.
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
