// Zeroes memory without using memory for it.
#pragma once

#include <cstdint>

#include "memory/mapping.h"
#include "memory/range.h"

namespace rdma_migrate::memory {

// Makes [offset, offset + length) read as zeros; neither has to be a multiple of the page size. Holes and
// pages that are already zero are not touched. may_punch: whole pages may be given back to the file system
// (never while a NIC pins them); if that is impossible, and for a caller's range, zeros are written.
// Throws Error: INVALID_ARGUMENT, DISK_FULL, IO_ERROR, CANCELLED.
void zero_range(const Mapping& mapping, uint64_t offset, uint64_t length, bool may_punch,
                const CancelFlag* cancel = nullptr);

}  // namespace rdma_migrate::memory
