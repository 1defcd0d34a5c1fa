// Touches pages before they are pinned.
#pragma once

#include <cstdint>

namespace rdma_migrate::verbs {

// Registering pins page by page on one thread, and clearing fresh pages is most of that work. Large writable
// ranges are populated first, by several threads. Changes no byte; does nothing where the kernel cannot
// (before Linux 5.14).
void prefault(uint64_t address, uint64_t length);

}  // namespace rdma_migrate::verbs
