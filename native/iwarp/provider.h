// The software iWARP RNIC: RDMA over an ordinary TCP connection (RFC 5040, 5041, 5044, 6581), in user space,
// without privileges.
#pragma once

#include <memory>

#include "fabric/fabric.h"

namespace rdma_migrate::iwarp {

// Works on every machine. Stateless: connections and listeners may outlive it.
std::unique_ptr<fabric::Provider> make_provider();

}  // namespace rdma_migrate::iwarp
