// Copies into registered memory that fail with an error where memcpy would raise SIGBUS: a file mapping on a
// full disk, or beyond the end of a file that has been cut.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fd.h"

namespace rdma_migrate::iwarp {

// Throws Error: RESOURCE_LIMIT (no file descriptors left).
class SafeCopy {
 public:
  SafeCopy();
  // size: at most kMaxSize. False: the destination cannot be written (EFAULT).
  bool copy(uint8_t* to, const uint8_t* from, size_t size);

  static constexpr size_t kMaxSize =
      16384;  // a pipe holds 64 KiB unless the user's pipe quota is used up, then 4 KiB

 private:
  // The kernel copies in and out, and reports what it cannot reach.
  UniqueFd read_end_;
  UniqueFd write_end_;
};

}  // namespace rdma_migrate::iwarp
