#include "verbs/domain.h"

#include "verbs/queue_pair.h"

namespace rdma_migrate::verbs {

std::unique_ptr<fabric::QueuePair> Domain::create_queue_pair(const fabric::QueuePairOptions& options,
                                                             fabric::QueuePairEvents& events) {
  std::lock_guard lock(mutex_);
  if (!core_) core_ = std::make_shared<DomainCore>(regions_);
  return std::make_unique<QueuePair>(core_, options, events);
}

}  // namespace rdma_migrate::verbs
