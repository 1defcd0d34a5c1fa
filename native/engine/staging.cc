#include "engine/staging.h"

#include "memory/guarded.h"
#include "memory/live_copy.h"

namespace rdma_migrate::engine {

Staging::Staging(fabric::Domain& domain, uint64_t bytes)
    : slab_(bytes, "staging memory"), region_(domain.register_memory(slab_.address(), bytes, 0)) {}

uint64_t Staging::place_for(uint64_t length) const {
  const uint64_t rest = slab_.size() - taken_ % slab_.size();
  return length <= rest ? taken_ : taken_ + rest;
}

uint64_t Staging::take(uint64_t length) {
  const uint64_t place = place_for(length);
  taken_ = place + length;
  return place;
}

bool copy_live(uint8_t* to, const uint8_t* from, uint64_t length) {
  return memory::guarded([=] { memory::copy_live(to, from, length); });
}

}  // namespace rdma_migrate::engine
