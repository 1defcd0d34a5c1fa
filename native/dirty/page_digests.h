// What the peer has of one block: a digest per page. The engine records what it sends, the hash tracker
// compares that with what is there now.
#pragma once

#include <cstdint>
#include <memory>

#include "dirty/page_hash.h"
#include "memory/bitmap.h"

namespace rdma_migrate::dirty {

// A new table says that every page of the peer is zero, which takes no memory: 16 bytes per page are used as
// digests are recorded. One thread may read while another records: a reader that meets a half-written entry
// sees a digest that matches no page.
class PageDigests {
 public:
  // page_size: of the block, at most kMaxPageSize. Throws Error: INVALID_ARGUMENT, OUT_OF_MEMORY,
  // TRACKER_UNAVAILABLE (larger pages).
  PageDigests(uint64_t pages, uint64_t page_size);
  ~PageDigests();
  PageDigests(const PageDigests&) = delete;
  PageDigests& operator=(const PageDigests&) = delete;

  // A page is copied and digested as a whole, in the engine's staging memory.
  static constexpr uint64_t kMaxPageSize = uint64_t{2} << 20;

  uint64_t pages() const { return pages_; }
  uint64_t page_size() const { return page_size_; }

  // The peer will have these bytes: whole pages that are not being written, as a copy on its way to the
  // peer. 64-byte aligned.
  void note(uint64_t first_page, const uint8_t* copy, uint64_t length);
  // The peer will have zeros. Throws Error: INVALID_ARGUMENT (past the end).
  void set_zero(uint64_t first_page, uint64_t count);

  // Whether the peer has what is in memory now.
  bool is_current(uint64_t page, const uint8_t* memory) const {
    return get(page) == hash_.digest(memory, page_size_);
  }
  // The first page of [from, end) for which the peer has something other than zeros, or end. Costs nothing
  // for pages that were never recorded.
  uint64_t next_nonzero(uint64_t from, uint64_t end) const;

 private:
  PageDigest get(uint64_t page) const;
  void set(uint64_t page, const PageDigest& digest);

  PageHash hash_;
  uint64_t pages_;
  uint64_t page_size_;
  uint64_t* words_ = nullptr;  // two per page
  memory::Bitmap noted_;       // groups of kGroup pages that were ever recorded
};

}  // namespace rdma_migrate::dirty
