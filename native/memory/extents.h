// Which parts of a mapping hold data and which are holes: pages that were never written. Holes are found
// without touching them, so that a sparse VM costs what it uses.
//
// How holes are found: for a memfd or file with SEEK_DATA and SEEK_HOLE (lseek(2)). On hugetlbfs pages are
// read with pread(), which does not allocate absent ones. For a caller's range with /proc/self/pagemap if it
// is private anonymous memory, with SEEK_DATA if it is shared memory whose file was given. Anything else
// counts as data: an absent page of a file mapping is not zero.
//
// The answer holds for the moment of the call. A page that is written after it is the dirty tracker's
// concern.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "memory/mapping.h"
#include "memory/range.h"

namespace rdma_migrate::memory {

struct Extent {
  Range range;
  bool is_hole = false;
};

// Walks [offset, offset + length) in order. Every extent but the last ends on a page boundary. The mapping
// must outlive it.
class ExtentCursor {
 public:
  // Throws Error: INVALID_ARGUMENT.
  ExtentCursor(const Mapping& mapping, uint64_t offset, uint64_t length);

  // False at the end. Neighbouring extents may be of the same kind. Throws Error: IO_ERROR.
  bool next(Extent* extent);

 private:
  uint64_t find_end(Extent* extent);
  uint64_t seek(Extent* extent);
  uint64_t seek_hugetlb(Extent* extent);
  uint64_t look_up(Extent* extent);

  const Mapping& mapping_;
  uint64_t at_;
  uint64_t end_;
  std::unique_ptr<PageMap> page_map_;
  std::vector<uint8_t> buffer_;
};

// Before data extents of a file are read: maps the range with one system call, which fails with an Error
// (IO_ERROR) where an access would raise SIGBUS, such as a disk that cannot be read or a file that was cut
// short. Does nothing for memory (a memfd cannot be cut, and asking costs as much as scanning) or on a kernel
// before 5.14.
void fault_in(const Mapping& mapping, const Range& range);

}  // namespace rdma_migrate::memory
