// Asynchronous write-protection: PAGEMAP_SCAN takes the written pages and protects them again in one step
// (admin-guide/mm/pagemap).
#pragma once

#include <vector>

#include "dirty/hole_watch.h"
#include "dirty/kernel_abi.h"
#include "dirty/tracker.h"
#include "dirty/userfaultfd.h"

namespace rdma_migrate::dirty {

class AsyncProtectTracker final : public Tracker {
 public:
  explicit AsyncProtectTracker(Blocks blocks);
  ~AsyncProtectTracker() override { stop(); }

  static bool supported();
  // Throws Error("TRACKER_UNAVAILABLE").
  static Userfaultfd open();

 private:
  void begin() override;
  uint64_t gather(Bitmaps bitmaps) override;
  void end() noexcept override;

  uint64_t scan(const memory::Mapping& mapping, const Findings& found);
  uint64_t scan_window(const memory::Mapping& mapping, uint64_t offset, uint64_t length,
                       const Findings& found);
  uint64_t take(const memory::Mapping& mapping, const abi::PageRegion& region, const Findings& found);

  std::unique_ptr<Userfaultfd> protection_;
  UniqueFd pagemap_;
  std::vector<std::unique_ptr<HoleWatch>> holes_;  // one per block; null where not needed
  std::vector<abi::PageRegion> regions_;
};

}  // namespace rdma_migrate::dirty
