// Shows that a device works: a connection from the device to itself, and a WRITE over it.
#pragma once

#include <chrono>
#include <string>

#include "fabric/device_provider.h"

namespace rdma_migrate::verbs {

// host: an address of the device. Throws nothing; what goes wrong is in the message.
fabric::Proof prove_loopback(fabric::Provider& provider, const std::string& host,
                             std::chrono::milliseconds timeout);

}  // namespace rdma_migrate::verbs
