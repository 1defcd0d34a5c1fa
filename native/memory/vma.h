// What the kernel says about this process's address space (/proc/self/maps, /proc/self/pagemap; proc(5)).
#pragma once

#include <cstdint>
#include <vector>

namespace rdma_migrate::memory {

struct Vma {
  uint64_t start = 0;
  uint64_t end = 0;
  bool readable = false;
  bool writable = false;
  bool shared = false;
  uint64_t file_offset = 0;
  uint64_t inode = 0;  // 0: anonymous

  // Private and anonymous: a page that is neither present nor swapped out has never been written and is zero.
  // For other mappings an absent page says nothing.
  bool absent_is_zero() const { return !shared && inode == 0; }
};

// The areas that intersect [address, address + length), in order. Throws Error: IO_ERROR (no /proc).
std::vector<Vma> vmas_in(uint64_t address, uint64_t length);

// Reads one bit per page of this process from /proc/self/pagemap, in batches.
class PageMap {
 public:
  PageMap();
  ~PageMap();
  PageMap(const PageMap&) = delete;
  PageMap& operator=(const PageMap&) = delete;

  // The end of the run of host pages from `address` on that are all in use or all absent; at most `end`. Both
  // page-aligned. If that is not known, everything counts as in use.
  uint64_t run_end(uint64_t address, uint64_t end, bool* in_use);

 private:
  bool load(uint64_t page);
  bool is_used(uint64_t page) const;

  int fd_;
  uint64_t page_size_;
  uint64_t first_page_ = 0;
  std::vector<uint64_t> entries_;
};

}  // namespace rdma_migrate::memory
