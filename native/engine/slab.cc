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
  // A device goes on with the pages that it pinned. After a fork() kernels before 5.12 give this process a
  // copy as soon as it writes, and the device would send what stood there before (ibv_fork_init(3)). Best
  // effort: a child only loses what it has no use for.
  madvise(mapped, size, MADV_DONTFORK);
}

Slab::~Slab() { munmap(data_, size_); }

}  // namespace rdma_migrate::engine
