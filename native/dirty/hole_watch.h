// Notices pages of shared memory that were given back: hole punching (fallocate(2), MADV_REMOVE) leaves a
// page's write-protection as it is, so that the page, which is zero now, would pass for unwritten.
#pragma once

#include <memory>
#include <vector>

#include "memory/bitmap.h"
#include "memory/mapping.h"

namespace rdma_migrate::dirty {

// Of one block. Where holes are told from: SEEK_DATA of the file behind it; mincore(2) where there is none or
// it cannot tell (a caller's range without its file; hugetlbfs). Private anonymous memory needs no watch:
// there a page that was given back is seen in the page tables.
class HoleWatch {
 public:
  // Learns what is data. Throws Error: OUT_OF_MEMORY, IO_ERROR.
  explicit HoleWatch(std::shared_ptr<memory::Mapping> mapping);

  // Sets the bit of each page that has become a hole since the last call and was data then. Returns their
  // number. Called behind the scan of the page tables: a page that is written and given back between the two
  // is set by the scan.
  uint64_t update(memory::Bitmap* dirty);

  // The pages that were data at the last call.
  const memory::Bitmap& data() const { return data_; }

  static bool needed(const memory::Mapping& mapping);

 private:
  uint64_t walk_file(memory::Bitmap* dirty);
  uint64_t walk_cache(memory::Bitmap* dirty);
  uint64_t note(bool is_data, uint64_t first, uint64_t end, memory::Bitmap* dirty);

  std::shared_ptr<memory::Mapping> mapping_;
  memory::Bitmap data_;
  std::vector<unsigned char> resident_;
};

}  // namespace rdma_migrate::dirty
