// Tracks writes by content: a page is unwritten if the peer has exactly what it holds now. Needs no help of
// kernel or VMM and sees every writer, devices and other processes included, at the price of reading all
// memory in use at each collect().
//
// Why it compares with what was SENT and not with the scan before: a page that goes from A to B, is sent, and
// goes back to A before the next scan would look as if nothing had happened. The engine therefore digests the
// very bytes that it sends (engine::WriteJob::digests).
//
// A page that is written while it is read may pass for current only if what was read, torn as it is, is what
// the peer has. What the page holds after that write is compared by the next collect(); the last one, with
// the guest at rest, is exact.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "dirty/page_digests.h"
#include "dirty/tracker.h"

namespace rdma_migrate::dirty {

class HashTracker final : public Tracker {
 public:
  // threads: that read at once, 1 to 64; 0: one for every two CPUs, at most 4. Throws Error as PageDigests
  // does.
  HashTracker(Blocks blocks, unsigned threads);
  ~HashTracker() override { stop(); }

  // One a block. They outlive the tracker.
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
