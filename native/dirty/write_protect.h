// Tracks writes through this process's own mappings by write-protecting them with userfaultfd. Writes through
// another mapping of the same memory, by another process or by a device are not seen.
#pragma once

#include <memory>

#include "dirty/tracker.h"

namespace rdma_migrate::dirty {

enum class ProtectMode {
  kBest,          // asynchronous where the kernel can, else with a fault thread
  kAsynchronous,  // Linux 6.7: the kernel notes a write and lets the writer go on
  kFaultThread,   // Linux 5.13 (5.19 for shared memory): a thread of ours lets each first writer of a page go
                  // on
};

// Throws Error: INVALID_ARGUMENT, TRACKER_UNAVAILABLE (memory of a kind that cannot be protected).
std::unique_ptr<Tracker> track_by_write_protection(Blocks blocks, ProtectMode mode = ProtectMode::kBest);

// Whether this kernel has it, in the best way this process may use. Nothing is left behind.
struct WriteProtectSupport {
  bool asynchronous = false;
  bool fault_thread = false;
  bool fault_thread_shared = false;  // the fault thread's way works for shared memory too
};
WriteProtectSupport write_protect_support();

}  // namespace rdma_migrate::dirty
