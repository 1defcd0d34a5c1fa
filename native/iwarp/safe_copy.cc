#include "iwarp/safe_copy.h"

#include <fcntl.h>

#include <algorithm>

namespace rdma_migrate::iwarp {

SafeCopy::SafeCopy() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    throw Error("RESOURCE_LIMIT", "no descriptor is left for a pipe (ulimit -n)", errno);
  }
  read_end_ = UniqueFd(ends[0]);
  write_end_ = UniqueFd(ends[1]);
}

bool SafeCopy::copy(uint8_t* to, const uint8_t* from, size_t size) {
  while (size != 0) {
    ssize_t queued = ::write(write_end_.get(), from, std::min(size, size_t{4096}));
    if (queued <= 0) throw Error("INTERNAL", "cannot write to a pipe of this process", errno);
    for (ssize_t moved = 0; moved < queued;) {
      ssize_t got = ::read(read_end_.get(), to + moved, static_cast<size_t>(queued - moved));
      if (got <= 0) return false;
      moved += got;
    }
    to += queued;
    from += queued;
    size -= static_cast<size_t>(queued);
  }
  return true;
}

}  // namespace rdma_migrate::iwarp
