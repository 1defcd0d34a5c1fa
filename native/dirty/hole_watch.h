// Detects discarded pages of shared memory: hole punching (fallocate(2), MADV_REMOVE) leaves a
// page's write-protection as it is, so the page, which is zero now, would pass as unwritten.
#pragma once

#include <ctime>
#include <memory>
#include <vector>

#include "memory/bitmap.h"
#include "memory/mapping.h"

namespace rdma_migrate::dirty {

// For one block. Holes are found with SEEK_DATA of its file, or with mincore(2) if it has none or SEEK_DATA
// cannot tell (a caller's range without its file; hugetlbfs). Private anonymous memory needs no watch:
// there a discarded page shows in the page tables.
//
// Merely reading a discarded page fills it with zeros; it is then no longer a hole, but still
// protected. So when pages may have been discarded, pages that have become zero count too. The time of change
// of a file tells whether that may be so; without one the first bytes of every page are read each
// time.
class HoleWatch {
 public:
  // Finds out what is data. Throws Error: OUT_OF_MEMORY, IO_ERROR.
  explicit HoleWatch(std::shared_ptr<memory::Mapping> mapping);

  // Sets the bit of each page that was data at the last call and is a hole now. Returns their
  // number. Called after the scan of the page tables: the scan sets a page that is written and discarded
  // between the two.
  uint64_t update(memory::Bitmap* dirty);
  // The scan has found these pages written: what was known about them no longer holds.
  void written(uint64_t first_page, uint64_t count) { zero_.clear_range(first_page, count); }

  // The pages that were data at the last call.
  const memory::Bitmap& data() const { return data_; }

  static bool needed(const memory::Mapping& mapping);

 private:
  uint64_t walk_file(memory::Bitmap* dirty);
  uint64_t walk_cache(memory::Bitmap* dirty);
  uint64_t note(bool is_data, uint64_t first, uint64_t end, memory::Bitmap* dirty);
  bool may_have_changed();
  uint64_t find_zeros(memory::Bitmap* dirty);

  std::shared_ptr<memory::Mapping> mapping_;
  memory::Bitmap data_;
  memory::Bitmap zero_;  // reported as zero, and not written since
  timespec changed_ = {};
  bool change_is_fresh_ = true;
  std::vector<unsigned char> resident_;
};

// Where a scan of one block reports what it has found written. Both may be null, when a watch begins.
struct Findings {
  memory::Bitmap* dirty = nullptr;
  HoleWatch* holes = nullptr;

  void add(uint64_t first_page, uint64_t count) const {
    if (dirty != nullptr) dirty->set_range(first_page, count);
    if (holes != nullptr) holes->written(first_page, count);
  }
};

}  // namespace rdma_migrate::dirty
