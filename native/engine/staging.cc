#include "engine/staging.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "memory/guarded.h"

namespace rdma_migrate::engine {

Staging::Staging(fabric::Connection& connection) {
  void* mapped = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    throw Error("OUT_OF_MEMORY", "no room for " + std::to_string(kBytes) + " bytes of staging memory", errno);
  }
  data_ = static_cast<uint8_t*>(mapped);
  try {
    region_ = connection.register_memory(reinterpret_cast<uint64_t>(data_), kBytes, 0);
  } catch (...) {
    munmap(data_, kBytes);
    throw;
  }
}

Staging::~Staging() {
  region_.reset();
  munmap(data_, kBytes);
}

uint64_t Staging::place_for(uint64_t length) const {
  const uint64_t rest = kBytes - taken_ % kBytes;
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
