// Which device leads to an address.
#pragma once

#include "fabric/device_provider.h"

namespace rdma_migrate::verbs {

// See DeviceProvider::reach(). Throws nothing.
fabric::Reach find_device(const fabric::Endpoint& endpoint, fabric::Direction direction,
                          std::chrono::milliseconds timeout);

}  // namespace rdma_migrate::verbs
