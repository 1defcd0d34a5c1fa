// Reads of mapped memory that fail with an error where they would raise SIGBUS: a file mapping beyond the end
// of a file that was cut short, a page that its disk cannot read, a poisoned one.
//
// A handler for SIGBUS is installed on first use and stays. It handles only faults inside run_guarded();
// every other SIGBUS goes to the handler that was there before, or ends the process as without it. An
// embedder that installs its own handler later should pass on the faults that are not its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "error.h"

namespace rdma_migrate::memory {

// Runs body(argument). False: it was left where it touched memory that is not there, at
// fault_address(). body must own nothing that needs a destructor: none runs. Costs some nanoseconds.
bool run_guarded(void (*body)(void*), void* argument);
// Of this thread's last run_guarded() that returned false.
uint64_t fault_address();

// The same for a lambda.
template <typename Body>
bool guarded(Body&& body) {
  using Plain = std::remove_reference_t<Body>;
  return run_guarded([](void* argument) { (*static_cast<Plain*>(argument))(); }, &body);
}

// What a failed access to the memory at address means: DISK_FULL if a full file system backs it,
// else IO_ERROR.
Error fault_error(uint64_t address, const char* action);

}  // namespace rdma_migrate::memory
