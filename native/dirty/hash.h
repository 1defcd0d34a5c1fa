// Tracks writes by content: a page is unwritten if the peer has exactly what it holds now. Needs no help from
// kernel or VMM and sees every writer, including devices and other processes, at the price of reading all
// memory in use at each collect().
//
// Why it compares with what was SENT and not with the previous scan: a page that goes from A to B, is sent,
// and goes back to A before the next scan would look unwritten. The engine therefore digests the
// very bytes that it sends (engine::WriteJob::digests).
//
// A page that is written while it is read may pass as current only if what was read, torn as it is, is what
// the peer has. The next collect() compares what the page holds after that write; the last one is exact,
// because the guest is paused.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "dirty/page_digests.h"
#include "dirty/tracker.h"

namespace rdma_migrate::dirty {

class HashTracker final : public Tracker {
 public:
  // threads: that read in parallel, 1 to 64; 0: one for every two CPUs, at most 4. Throws Error as
  // PageDigests does.
  HashTracker(Blocks blocks, unsigned threads);
  ~HashTracker() override { stop(); }

  // One per block. They outlive the tracker.
  const std::vector<std::shared_ptr<PageDigests>>& sent() const { return sent_; }

 private:
  struct Piece;

  void begin() override {}
  uint64_t gather(Bitmaps bitmaps) override;
  void end() noexcept override {}

  uint64_t compare(const Piece& piece, memory::Bitmap& dirty) const;
  uint64_t compare_data(const Piece& piece, const memory::Range& range, memory::Bitmap& dirty) const;
  uint64_t compare_hole(const Piece& piece, const memory::Range& range, memory::Bitmap& dirty) const;

  unsigned threads_;
  std::vector<std::shared_ptr<PageDigests>> sent_;
};

}  // namespace rdma_migrate::dirty
