#include "engine/slab.h"

#include <sys/mman.h>

#include <cerrno>
#include <string>

#include "error.h"
#include "memory/core_dumps.h"

namespace rdma_migrate::engine {

Slab::Slab(size_t size, const char* what_for) : size_(size) {
  data_ = memory::map_private(size);
  if (data_ == nullptr) {
    throw Error("OUT_OF_MEMORY", "no room for the " + std::to_string(size) + " bytes of " + what_for, errno);
  }
  // A device goes on with the pages that it pinned. After a fork() kernels before 5.12 give this process a
  // copy as soon as it writes, and the device would send what stood there before (ibv_fork_init(3)). Best
  // effort: a child only loses what it has no use for.
  madvise(data_, size, MADV_DONTFORK);
}

Slab::~Slab() { memory::unmap_private(data_, size_); }

}  // namespace rdma_migrate::engine
