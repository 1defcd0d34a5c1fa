// Tracks writes through this process's own mappings by write-protecting them with userfaultfd. Writes through
// another mapping of the same memory, by another process or by a device are not seen.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "dirty/tracker.h"

namespace rdma_migrate::dirty {

enum class ProtectMode {
  kBest,          // asynchronous if the kernel can, else with a fault thread
  kAsynchronous,  // Linux 6.7: the kernel records a write and lets the writer go on
  kFaultThread,   // Linux 5.13 (5.19 for shared memory): a thread of ours lets each first writer of a page go
                  // on
};

// Throws Error: INVALID_ARGUMENT, TRACKER_UNAVAILABLE (memory of a kind that cannot be protected).
std::unique_ptr<Tracker> track_by_write_protection(Blocks blocks, ProtectMode mode = ProtectMode::kBest);

// What this kernel offers and this process may use, for these blocks; for no blocks, for any memory that can
// be protected at all. Leaves no trace.
struct WriteProtectSupport {
  std::optional<ProtectMode> mode;  // what kBest would choose
  std::string problem;              // why there is none
};
WriteProtectSupport write_protect_support(const Blocks& blocks);

}  // namespace rdma_migrate::dirty
