// What a BulkWriter is asked for and what it tells: jobs, results, counters.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "dirty/page_digests.h"
#include "error.h"
#include "memory/bitmap.h"

namespace rdma_migrate::engine {

// Neighbouring pages travel as one WRITE of at most this much (QEMU's RDMA_MERGE_MAX), a larger page as
// several.
inline constexpr uint64_t kMaxWriteBytes = 2 * 1024 * 1024;
// Bytes posted and not completed, over all queue pairs. A control message queues behind its queue pair's
// share of them, so this bounds its delay (and a cancel's); it is far above bandwidth times round trip of a
// 100 Gbit/s link (1.25 MB at 100 us), so the link never runs dry.
inline constexpr uint64_t kMaxOutstandingBytes = 16 * 1024 * 1024;

// A part of a job's block, and the keys that are good for it at both ends.
struct WriteSpan {
  uint64_t offset = 0;  // in the block, bytes; as length a multiple of the page size
  uint64_t length = 0;
  uint32_t lkey = 0;
  uint32_t rkey = 0;
};

// The pages of some spans of a block whose bits are set. Thousands of spans are one job: it is submitted,
// completes and is told of once.
struct WriteJob {
  uint64_t local_address = 0;   // of the block's first byte
  uint64_t remote_address = 0;  // of the same byte at the peer
  uint64_t page_size = 4096;
  std::vector<WriteSpan> spans;  // written in this order
  // Of the block; a bit is cleared before its page is read. Others set and clear bits meanwhile.
  std::shared_ptr<memory::Bitmap> bitmap;
  std::shared_ptr<void> keep_alive;  // whatever owns the block's memory
  // Not null: pages travel by way of staging memory, and what is sent of each is noted here. Of the same page
  // size, and as many pages as the bitmap.
  std::shared_ptr<dirty::PageDigests> digests;
};

struct WriteResult {
  bool ok = false;  // false: cancelled, the connection ended, or `error`
  uint64_t pages = 0;
  uint64_t bytes = 0;
  uint64_t writes = 0;
  std::shared_ptr<const Error> error;  // staging memory cannot be had, pages cannot be read, or a queue pair
                                       // refused a WRITE
};

// Read by JavaScript while the writer runs: the order is that of lib/native/transport.ts.
struct WriterCounters {
  std::atomic<uint64_t> bytes_completed{0};
  std::atomic<uint64_t> pages_posted{0};
  std::atomic<uint64_t> writes_posted{0};
  std::atomic<uint64_t> stalls{0};   // times the writer waited for a completion
  std::atomic<uint64_t> wire_ns{0};  // time in which a WRITE was on its way
  std::atomic<uint64_t> held_ns{0};  // time in which none was because of the bandwidth limit
};
static_assert(sizeof(WriterCounters) == 6 * sizeof(uint64_t) && std::atomic<uint64_t>::is_always_lock_free);

}  // namespace rdma_migrate::engine
