// A protection domain on RDMA devices: the first queue pair or bind() chooses the device, the others share
// it, its memory and its keys, and one processing thread serves them all.
#pragma once

#include <memory>
#include <mutex>

#include "fabric/fabric.h"
#include "verbs/domain_core.h"

namespace rdma_migrate::verbs {

class Domain final : public fabric::Domain {
 public:
  ~Domain() override { regions_->end(); }

  std::unique_ptr<fabric::MemoryRegion> register_memory(uint64_t address, uint64_t length,
                                                        unsigned access) override {
    return regions_->add(address, length, access);
  }
  void revoke_remote_access() override { regions_->revoke_remote(); }
  bool pins_memory() const override { return true; }
  void bind(const fabric::ConnectionRequest& request) override;
  // Throws Error: RESOURCE_LIMIT.
  std::unique_ptr<fabric::QueuePair> create_queue_pair(const fabric::QueuePairOptions& options,
                                                       fabric::QueuePairEvents& events) override;

 private:
  std::shared_ptr<DomainCore> core();

  const std::shared_ptr<Regions> regions_ = std::make_shared<Regions>();
  std::mutex mutex_;
  std::shared_ptr<DomainCore> core_;  // once there is a queue pair, or bind()
};

}  // namespace rdma_migrate::verbs
