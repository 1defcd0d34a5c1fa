#include "engine/slab.h"

#include <sys/mman.h>

#include <cerrno>
#include <string>

#include "error.h"

namespace rdma_migrate::engine {

Slab::Slab(size_t size, const char* what_for) : size_(size) {
  void* mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    throw Error("OUT_OF_MEMORY", "no room for the " + std::to_string(size) + " bytes of " + what_for, errno);
  }
  data_ = static_cast<uint8_t*>(mapped);
}

Slab::~Slab() { munmap(data_, size_); }

}  // namespace rdma_migrate::engine
