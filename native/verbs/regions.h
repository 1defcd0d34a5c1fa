// The registered memory of one domain. What users get as lkey is a handle of ours: a region may be made
// before the device is known (the domain learns it from its first queue pair), and a handle finds the bounds
// that post_send() checks.
#pragma once

#include <infiniband/verbs.h>

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <vector>

#include "fabric/fabric.h"
#include "verbs/device.h"
#include "verbs/freer.h"

namespace rdma_migrate::verbs {

class Regions : public std::enable_shared_from_this<Regions> {
 public:
  // Registers with the device, or later in bind(). Throws Error: REGISTER_FAILED, LOCKED_MEMORY_LIMIT.
  std::unique_ptr<fabric::MemoryRegion> add(uint64_t address, uint64_t length, unsigned access);
  void remove(uint32_t handle);
  // Deregisters what the peer has rights to; add() takes no such region any more. Throws Error: INTERNAL, the
  // device refuses and the peer has its rights still.
  void revoke_remote();
  // 0 before bind(), after end(), after revoke_remote() for what it took, and for an unknown handle.
  uint32_t rkey(uint32_t handle) const;

  using Buffers = std::array<ibv_sge, 2>;
  // The table as a batch of requests sees it. Whoever holds one keeps others waiting: not for long.
  class View {
   public:
    explicit View(const Regions& regions) : regions_(regions), lock_(regions.mutex_) {}
    // Throws Error INVALID_ARGUMENT unless handle covers the range with these rights, and it is no longer
    // than a piece is, or will be on a device without a limit.
    void check(uint32_t handle, uint64_t address, uint32_t length, unsigned rights) const;
    static constexpr int kGone = -1;     // the region has been deregistered, or there is no device yet
    static constexpr int kTooLong = -2;  // than the pieces of a device that was not known when it was checked
    // A checked range as the device takes it: in how many buffers, 0 for an empty range; or one of the above.
    int buffers(uint32_t handle, uint64_t address, uint32_t length, Buffers& out) const;

   private:
    const Regions& regions_;
    const std::lock_guard<std::mutex> lock_;
  };

  // The device is known: registers what waits for it, or throws Error like add() and knows none still.
  void bind(std::shared_ptr<Device> device);
  // Deregisters everything; waits for registrations under way. No queue pair must use memory any more.
  void end();

 private:
  using Mr = MemoryRegistration;
  struct Region {
    uint64_t address = 0;
    uint64_t length = 0;
    unsigned access = 0;
    // Empty until the device is known, and after revoke_remote(). More than one, of piece bytes each, only
    // where access is 0.
    std::vector<Mr> mrs;
    uint64_t piece = 0;
  };

  void register_with_device(Region& region) const;
  void register_pieces(Region& region) const;
  Mr register_range(uint64_t address, uint64_t length, unsigned access) const;
  uint32_t new_handle();

  // Held shared by whoever registers or deregisters, which takes as long as pinning takes; alone by bind(),
  // end() and revoke_remote().
  std::shared_mutex device_mutex_;
  std::shared_ptr<Device> device_;
  bool ended_ = false;
  bool remote_revoked_ = false;

  mutable std::mutex mutex_;  // regions_, last_handle_
  std::unordered_map<uint32_t, Region> regions_;
  uint32_t last_handle_ = 0;
};

}  // namespace rdma_migrate::verbs
