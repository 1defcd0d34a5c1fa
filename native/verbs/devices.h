// The RDMA devices of this machine, as the kernel describes them.
#pragma once

#include <vector>

#include "fabric/device_provider.h"

namespace rdma_migrate::verbs {

// Throws nothing: a device that cannot be opened says why.
std::vector<fabric::Device> list_devices();

}  // namespace rdma_migrate::verbs
