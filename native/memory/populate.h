// Touches pages ahead of use. First touch of fresh pages is what makes receivers slow.
#pragma once

#include <cstdint>

#include "memory/mapping.h"
#include "memory/range.h"

namespace rdma_migrate::memory {

// Makes every page of the range present and writable without changing a byte, whatever other threads write
// meanwhile. Only an optimisation: where the kernel gives no safe way it does nothing. A range of a memfd is
// also advised MADV_HUGEPAGE, because all of it is about to be used. Throws Error: INVALID_ARGUMENT (range;
// read-only mapping), DISK_FULL, OUT_OF_MEMORY, IO_ERROR, CANCELLED.
//
// kKeep: ends early, and without an error, before a step that would take more than a quarter of what the
// file system has free, or when others have taken it meanwhile, so that nothing that is only expected to be
// used takes the room of what is.
enum class FreeSpace { kUse, kKeep };
void populate(const Mapping& mapping, uint64_t offset, uint64_t length, const CancelFlag* cancel = nullptr,
              FreeSpace free_space = FreeSpace::kUse);

namespace internal {

// What populate() does on kernels before 5.14, which have no MADV_POPULATE_WRITE: space is reserved with
// fallocate(), where a full disk is an error and no signal, then each page is touched with an atomic OR of
// nothing.
void populate_by_touch(const Mapping& mapping, const Range& range);

}  // namespace internal
}  // namespace rdma_migrate::memory
