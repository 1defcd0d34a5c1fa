// A protection domain of the software RNIC, and the provider that makes it.
#pragma once

#include "fabric/fabric.h"
#include "iwarp/region_table.h"

namespace rdma_migrate::iwarp {

// Its memory needs no MADV_DONTFORK, as a device's does: this process itself writes it, so that after a
// fork() of the embedder's the kernel copies a page before either side changes it, and keys stay with the
// parent.
class Domain final : public fabric::Domain {
 public:
  explicit Domain(std::shared_ptr<Engine> engine);

  std::unique_ptr<fabric::MemoryRegion> register_memory(uint64_t address, uint64_t length,
                                                        unsigned access) override;
  std::unique_ptr<fabric::MemoryRegion> register_mapped(uint64_t address, uint64_t length, unsigned access,
                                                        std::shared_ptr<fabric::Backing> backing) override;
  std::unique_ptr<fabric::MemoryRegion> register_as(const fabric::MovedRegion& was,
                                                    uint64_t address) override;
  void revoke_remote_access() override { regions_->revoke_remote(); }
  bool observe_placement(std::shared_ptr<fabric::PlacementObserver> observer) override;
  bool pins_memory() const override { return false; }
  std::unique_ptr<fabric::QueuePair> create_queue_pair(const fabric::QueuePairOptions& options,
                                                       fabric::QueuePairEvents& events) override;

 private:
  const std::shared_ptr<RegionTable> regions_;
};

}  // namespace rdma_migrate::iwarp
