// Tracks the writes of another process by the kernel's soft-dirty bits (admin-guide/mm/soft-dirty). The
// process is stopped while the bits are read and cleared, so that no write falls in between.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "dirty/hole_watch.h"
#include "dirty/pagemap.h"
#include "dirty/target_process.h"
#include "dirty/tracker.h"

namespace rdma_migrate::dirty {

struct SoftDirtyOptions {
  pid_t pid = 0;
  // Where the process has each block; empty: found by the file that both map.
  std::vector<uint64_t> addresses;
  std::string cgroup;  // its folder in the cgroup v2 file system: frozen instead of SIGSTOP
  std::chrono::milliseconds stop_timeout{2000};
};

class SoftDirtyTracker final : public Tracker {
 public:
  // blocks: this process's mappings of the memory that the other shares. Throws Error: INVALID_ARGUMENT,
  // TRACKER_UNAVAILABLE (huge pages, private memory, no such process).
  SoftDirtyTracker(Blocks blocks, SoftDirtyOptions options);
  ~SoftDirtyTracker() override;

  // Whether the kernel keeps soft-dirty bits.
  static bool supported();

 private:
  void begin() override;
  uint64_t gather(Bitmaps bitmaps) override;
  void end() noexcept override;

  void locate();
  uint64_t find_block(const memory::Mapping& mapping, const std::vector<TargetArea>& areas) const;
  void check_block(size_t block, const std::vector<TargetArea>& areas) const;
  void clear_bits();
  bool read_bits(Bitmaps bitmaps);
  void read_block(size_t block, memory::Bitmap* dirty);
  // Pages of the file that are not in the process's page tables: whether they were written is unknown.
  void take_absent(size_t block, memory::Bitmap* dirty);

  SoftDirtyOptions options_;
  std::vector<uint64_t> addresses_;
  std::unique_ptr<TargetProcess> target_;
  std::unique_ptr<Pagemap> pagemap_;
  std::vector<std::unique_ptr<HoleWatch>> holes_;
  std::vector<std::unique_ptr<memory::Bitmap>> absent_;
  uint64_t found_ = 0;
};

}  // namespace rdma_migrate::dirty
