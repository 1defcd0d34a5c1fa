// A copy of memory that a running guest writes meanwhile: what is read of a page may be torn, and is sent
// again.
#pragma once

#include <cstdint>
#include <cstring>

namespace rdma_migrate::memory {

// As memcpy(). The thread sanitizer would take that for a race with the guest, which it is, and is meant to
// be.
inline void copy_live(uint8_t* to, const uint8_t* from, uint64_t length) {
#if defined(__SANITIZE_THREAD__)
  uint64_t at = 0;
  for (; at < length && (reinterpret_cast<uintptr_t>(from + at) % 8 != 0 || length - at < 8); ++at)
    to[at] = __atomic_load_n(from + at, __ATOMIC_RELAXED);
  for (; length - at >= 8; at += 8) {
    const uint64_t word = __atomic_load_n(reinterpret_cast<const uint64_t*>(from + at), __ATOMIC_RELAXED);
    std::memcpy(to + at, &word, 8);
  }
  for (; at < length; ++at) to[at] = __atomic_load_n(from + at, __ATOMIC_RELAXED);
#else
  std::memcpy(to, from, length);
#endif
}

}  // namespace rdma_migrate::memory
