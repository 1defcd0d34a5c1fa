// Notices pages of shared memory that were given back: hole punching (fallocate(2), MADV_REMOVE) leaves a
// page's write-protection as it is, so that the page, which is zero now, would pass for unwritten.
#pragma once

#include <ctime>
#include <memory>
#include <vector>

#include "memory/bitmap.h"
#include "memory/mapping.h"

namespace rdma_migrate::dirty {

// Of one block. Where holes are told from: SEEK_DATA of the file behind it; mincore(2) where there is none or
// it cannot tell (a caller's range without its file; hugetlbfs). Private anonymous memory needs no watch:
// there a page that was given back is seen in the page tables.
//
// Whoever only reads a page that was given back fills it with zeros, and it is no hole any more, but
// protected as before. So when a page may have been given back, pages that have become zero count too. A file
// tells by its time of change whether that may be; elsewhere the first bytes of every page are looked at each
// time.
class HoleWatch {
 public:
  // Learns what is data. Throws Error: OUT_OF_MEMORY, IO_ERROR.
  explicit HoleWatch(std::shared_ptr<memory::Mapping> mapping);

  // Sets the bit of each page that has become a hole since the last call and was data then. Returns their
  // number. Called behind the scan of the page tables: a page that is written and given back between the two
  // is set by the scan.
  uint64_t update(memory::Bitmap* dirty);
  // The scan has found these pages written: what was known of them is of no worth.
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

// Where a scan of one block tells what it has found written. Both may be null, when a watch begins.
struct Findings {
  memory::Bitmap* dirty = nullptr;
  HoleWatch* holes = nullptr;

  void add(uint64_t first_page, uint64_t count) const {
    if (dirty != nullptr) dirty->set_range(first_page, count);
    if (holes != nullptr) holes->written(first_page, count);
  }
};

}  // namespace rdma_migrate::dirty
