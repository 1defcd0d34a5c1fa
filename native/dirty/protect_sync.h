// Write-protection on kernels before 6.7: a thread of ours gets the first write fault of each page and lets
// the writer go on. Which pages were written is read from the page tables, where an unwritten page
// still carries its protection.
#pragma once

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "dirty/hole_watch.h"
#include "dirty/pagemap.h"
#include "dirty/tracker.h"
#include "dirty/userfaultfd.h"
#include "fd.h"

namespace rdma_migrate::dirty {

class FaultThreadTracker final : public Tracker {
 public:
  explicit FaultThreadTracker(Blocks blocks);
  ~FaultThreadTracker() override { stop(); }

  // Throws Error("TRACKER_UNAVAILABLE").
  static Userfaultfd open();
  // Throws Error("TRACKER_UNAVAILABLE"), also for a caller's range of huge pages.
  static void add(Userfaultfd& protection, const memory::Mapping& mapping);

 private:
  void begin() override;
  uint64_t gather(Bitmaps bitmaps) override;
  void end() noexcept override;

  void serve_faults() noexcept;
  bool serve_batch();
  void let_writer_go(uint64_t address) const;
  void release() noexcept;

  uint64_t scan(const memory::Mapping& mapping, const Findings& found);
  void take(const memory::Mapping& mapping, uint64_t first, uint64_t count, const Findings& found);
  void protect(const memory::Mapping& mapping, uint64_t address, uint64_t length);

  bool fills_holes_ = false;  // the kernel cannot protect an anonymous page that is not present
  std::unique_ptr<Userfaultfd> protection_;
  std::unique_ptr<Pagemap> pagemap_;
  std::vector<std::unique_ptr<HoleWatch>> holes_;  // one per block; null where not needed
  WakeEvent quit_;
  std::atomic<bool> broken_{false};  // the thread has failed: everything is writable, nothing is tracked
  std::thread thread_;
};

}  // namespace rdma_migrate::dirty
