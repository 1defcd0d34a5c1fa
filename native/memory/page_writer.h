// Writes mapped blocks as the page records of a plain QEMU stream.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "memory/page_record.h"

namespace rdma_migrate::memory {

// Every page once, blocks in order, addresses ascending; zero pages as ZERO records, holes without
// being read. One call at a time; the counters may be read from any thread.
class PageWriter {
 public:
  struct Filled {
    uint64_t length = 0;  // bytes written to the buffer: whole records
    bool done = false;    // these were the last; EOS is left to the caller
  };

  explicit PageWriter(std::vector<PageBlock> blocks) : blocks_(std::move(blocks)) {}

  // Throws Error: INVALID_ARGUMENT (a buffer below kMaxRecordBytes), CLOSED, IO_ERROR.
  Filled fill(std::span<uint8_t> buffer);

  uint64_t pages_written() const { return pages_.load(std::memory_order_relaxed); }  // data and zero
  uint64_t zero_pages() const { return zero_pages_.load(std::memory_order_relaxed); }

 private:
  class Output;

  void write_block(const Mapping& mapping, Output& output);
  void write_extent(const Mapping& mapping, const Range& range, bool is_hole, Output& output);
  bool write_page(const uint8_t* page, Output& output);

  const std::vector<PageBlock> blocks_;
  std::atomic<uint64_t> pages_{0};
  std::atomic<uint64_t> zero_pages_{0};
  size_t block_ = 0;     // the next page's
  uint64_t offset_ = 0;  // the next page's
  bool named_ = false;   // the block's name has been written: the next record may CONTINUE
};

}  // namespace rdma_migrate::memory
