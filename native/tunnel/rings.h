// The registered memory of one end of a stream: the ring that the peer writes into, and what is sent from.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/slab.h"
#include "fabric/fabric.h"

namespace rdma_migrate::tunnel {

struct Rings {
  // Both of so many bytes. Throws Error: OUT_OF_MEMORY, REGISTER_FAILED, LOCKED_MEMORY_LIMIT.
  Rings(fabric::Domain& domain, uint32_t bytes)
      : ring(bytes, "a stream's ring"),
        outgoing(bytes, "what a stream sends"),
        ring_region(domain.register_memory(ring.address(), ring.size(),
                                           fabric::kAccessLocalWrite | fabric::kAccessRemoteWrite)),
        outgoing_region(
            domain.register_memory(outgoing.address(), outgoing.size(), fabric::kAccessLocalWrite)) {}

  // Destroyed in reverse: regions before their memory.
  const engine::Slab ring, outgoing;
  const std::unique_ptr<fabric::MemoryRegion> ring_region, outgoing_region;
};

}  // namespace rdma_migrate::tunnel
