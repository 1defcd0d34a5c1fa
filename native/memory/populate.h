// Touches pages ahead of use. The first touch of new pages is what makes receivers slow.
#pragma once

#include <cstdint>

#include "memory/mapping.h"
#include "memory/range.h"

namespace rdma_migrate::memory {

// Makes every page of the range present and writable without changing a byte, whatever other threads write
// meanwhile. Only an optimisation: if the kernel has no safe way it does nothing. A range of a memfd is
// also advised MADV_HUGEPAGE, because all of it is about to be used. Throws Error: INVALID_ARGUMENT (range;
// read-only mapping), DISK_FULL, OUT_OF_MEMORY, IO_ERROR, CANCELLED.
//
// kKeep: ends early, without an error, before a step that would take more than a quarter of the file system's
// free space, or if other users have taken it meanwhile: memory that is only expected to be used must not
// take the room of memory that is.
enum class FreeSpace { kUse, kKeep };
void populate(const Mapping& mapping, uint64_t offset, uint64_t length, const CancelFlag* cancel = nullptr,
              FreeSpace free_space = FreeSpace::kUse);

namespace internal {

// What populate() does on kernels before 5.14, which have no MADV_POPULATE_WRITE: it reserves space with
// fallocate(), for which a full disk is an error and not a signal, then touches each page with an atomic OR
// of zero.
void populate_by_touch(const Mapping& mapping, const Range& range);

}  // namespace internal
}  // namespace rdma_migrate::memory
