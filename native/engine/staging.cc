#include "engine/staging.h"

#include <cstring>

#include "memory/guarded.h"

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
#if defined(__SANITIZE_THREAD__)
  // The sanitizer would take memcpy() for a race with the guest, which it is, and is meant to be.
  return memory::guarded([=] {
    for (uint64_t at = 0; at < length; at += 8) {
      const uint64_t word = __atomic_load_n(reinterpret_cast<const uint64_t*>(from + at), __ATOMIC_RELAXED);
      std::memcpy(to + at, &word, 8);
    }
  });
#else
  return memory::guarded([=] { std::memcpy(to, from, length); });
#endif
}

}  // namespace rdma_migrate::engine
