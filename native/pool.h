// Threads for work that takes time, in lanes that do not wait for each other: a digest of many GiB or a slow
// fsync of one migration never delays another's registration or close.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace rdma_migrate {

enum class WorkLane {
  kRegister,  // with a device, which pins memory
  kClose,     // closes of connections, listeners and regions, and taking remote rights back: what a device
              // unpins, and the second that it may take to give back what was posted
  kBulk,    // what takes as long as there is memory or a disk is slow: opening files, populate, zero, digest,
            // classify, sync, unmap, and trackers
  kLookUp,  // what waits for somebody else: name servers, ARP, devices
};
inline constexpr size_t kWorkLanes = 4;

// Threads start when they are needed and end after some seconds without work; each lane has a bounded number.
class Pool {
 public:
  // Of this process, and lives as long: work may still run when static objects are destroyed.
  static Pool& shared();

  // idle_ms: how long a thread waits for work before it ends.
  explicit Pool(unsigned idle_ms = 5'000);
  // Waits for the work that has been taken, and drops the rest.
  ~Pool();
  Pool(const Pool&) = delete;

  // Runs work on a thread of the lane, in the order of this call. It must not throw. Throws Error:
  // RESOURCE_LIMIT when the lane has no thread and can have none.
  void run(WorkLane lane, std::function<void()> work);
  size_t threads(WorkLane lane) const;
  static size_t most_threads(WorkLane lane);

 private:
  struct Lane;
  std::unique_ptr<Lane> lanes_[kWorkLanes];
};

}  // namespace rdma_migrate
