// Reads of mapped memory that fail with an error where they would raise SIGBUS: a file mapping beyond the end
// of a file that was cut short, a page that its disk cannot give, a poisoned one.
//
// A handler for SIGBUS is installed with the first use and stays. It acts on faults inside run_guarded()
// alone; every other SIGBUS goes to whoever handled it before, or ends the process as without it. An embedder
// that installs one of its own later should hand on what is not its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "error.h"

namespace rdma_migrate::memory {

// Runs body(argument). False: it was left where it touched memory that is not there, whose address is then
// fault_address(). body must own nothing that a destructor gives back: none runs. Costs some nanoseconds.
bool run_guarded(void (*body)(void*), void* argument);
// Of the last run_guarded() of this thread that was false.
uint64_t fault_address();

// The same for a lambda.
template <typename Body>
bool guarded(Body&& body) {
  using Plain = std::remove_reference_t<Body>;
  return run_guarded([](void* argument) { (*static_cast<Plain*>(argument))(); }, &body);
}

// What a failed access of the memory at address means: DISK_FULL when a file system that is full backs it,
// else IO_ERROR.
Error fault_error(uint64_t address, const char* action);

}  // namespace rdma_migrate::memory
