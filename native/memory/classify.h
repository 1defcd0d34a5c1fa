// Sorts the pages to be sent into zero and data.
#pragma once

#include <cstdint>
#include <vector>

#include "memory/bitmap.h"
#include "memory/mapping.h"
#include "memory/range.h"

namespace rdma_migrate::memory {

struct ClassifyWindow {
  uint64_t offset = 0;  // bytes, a multiple of the page size
  uint64_t length = 0;  // bytes, a multiple of the page size
  uint64_t min_zero_run =
      0;  // bytes: shorter runs of zero pages travel as data, which is cheaper than a message
  uint64_t merge_gap = 0;  // bytes: data runs with a gap below this become one
  // Bytes: after so much has been read it ends early, within 16 MiB, or one page where that is more. Holes,
  // and pages whose bits are clear, cost nothing of it: sparse RAM, or RAM of which little is dirty, is one
  // window. Holes of hugetlbfs are found by reading, and cost their length. Not 0: it would come nowhere.
  uint64_t most_read = UINT64_MAX;
};

struct Classification {
  uint64_t end = 0;         // bytes: as far as it has come
  uint64_t data_pages = 0;  // pages whose bit is still set
  uint64_t zero_pages = 0;  // pages found zero, their bits cleared
  std::vector<Range> zero_runs;
  std::vector<Range> data_runs;
};

// Examines the pages of the window whose bits are set; a page is mapping.page_size(), bit 0 is offset 0.
// Consecutive candidates that are holes or zero form a zero run. A page whose bit is clear ends a run: it was
// sent before, and is not known to be zero. Results are in order and take at most 16 bytes for
// each two pages that have been read.
//
// While the guest runs: a bit is taken BEFORE its page is examined, and given back if the page is data. So no
// write is lost if its bit is set after it (as a dirty tracker does): either the scan saw the write, or the
// bit is set when this returns. A scan that races with a write can call a page zero that never was,
// but then that write sets the bit again. Therefore the caller must see to it that:
//  - a zero run is sent to the peer before any page whose bit was set after this call began;
//  - nothing else takes bits of the window meanwhile (the bulk writer gets it afterwards).
//
// `zeros`, if it is not null, has a bit for each page too: those of the zero runs are set there in the end,
// and those of the data runs cleared.
//
// Throws Error: INVALID_ARGUMENT, IO_ERROR, CANCELLED; then every candidate's bit is set again.
Classification classify(const Mapping& mapping, Bitmap& bitmap, const ClassifyWindow& window,
                        const CancelFlag* cancel = nullptr, Bitmap* zeros = nullptr);

}  // namespace rdma_migrate::memory
