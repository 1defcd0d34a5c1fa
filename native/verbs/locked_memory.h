// What limits the memory that a process may pin. A device holds every page of a registered range in RAM.
#pragma once

#include <cstdint>
#include <string>

#include "error.h"

namespace rdma_migrate::verbs {

struct PinLimits {
  uint64_t pinned = 0;        // bytes pinned by this process already (VmPin)
  uint64_t memlock = 0;       // RLIMIT_MEMLOCK; UINT64_MAX: unlimited
  bool may_ignore = false;    // CAP_IPC_LOCK (not every driver cares: siw does not)
  uint64_t memory = 0;        // RAM that this process can ever have; UINT64_MAX: unknown
  std::string memory_source;  // "RAM" or the cgroup's file that sets it
};

PinLimits pin_limits();

// Throws Error LOCKED_MEMORY_LIMIT, naming the bytes needed and the limit found, if pinning length more bytes
// cannot succeed. For a test of its own: limits are given.
void check_can_pin(uint64_t length, const PinLimits& limits);

// The error for a registration that the driver refused with error_number.
Error pin_error(uint64_t address, uint64_t length, bool writable, int error_number);

}  // namespace rdma_migrate::verbs
