// What the queue pairs of a domain share: its memory, its device once there is one, and the one thread that
// processes them all.
#pragma once

#include <memory>

#include "fabric/processor.h"
#include "verbs/device.h"
#include "verbs/regions.h"

namespace rdma_migrate::verbs {

class DomainCore {
 public:
  // Throws Error: RESOURCE_LIMIT.
  explicit DomainCore(std::shared_ptr<Regions> regions) : regions_(std::move(regions)) {}

  const std::shared_ptr<Regions>& regions() const { return regions_; }
  fabric::Processor& processor() { return processor_; }
  // The domain's device for a queue pair on this id, or to come; the first one chooses it, and memory that
  // waits for it is registered. On the processing thread. Throws Error: CONNECT_FAILED, and as registering
  // does.
  std::shared_ptr<Device> device_for(const CmId& id);

 private:
  // Asynchronous events of the device.
  class AsyncEvents final : public fabric::Served {
   public:
    Next serve(unsigned reasons) noexcept override;
    ibv_context* device = nullptr;
  };

  const std::shared_ptr<Regions> regions_;
  std::shared_ptr<Device> device_;  // the processing thread's
  AsyncEvents events_;
  fabric::Processor processor_;  // last: its thread uses the members above
};

}  // namespace rdma_migrate::verbs
