// Byte ranges within a mapping.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "error.h"

namespace rdma_migrate::memory {

// Bytes, from the start of the mapping. Two adjacent u64, as the pairs of NativeRuns in lib/native/memory.ts.
struct Range {
  uint64_t offset = 0;
  uint64_t length = 0;

  uint64_t end() const { return offset + length; }
  bool operator==(const Range&) const = default;
};
static_assert(sizeof(Range) == 2 * sizeof(uint64_t));

// The size of QEMU's target page on x86-64 and arm64: the unit of a plain stream's page records.
inline constexpr uint64_t kTargetPageSize = 4096;

// Long work is done in steps of at most this much, so that a cancel is seen within milliseconds.
inline constexpr uint64_t kStepBytes = 16 * 1024 * 1024;

// Set by another thread to end long work early.
using CancelFlag = std::atomic<bool>;

// Throws Error("CANCELLED") if the flag is set; a null flag never is.
inline void throw_if_cancelled(const CancelFlag* flag, const char* operation) {
  if (flag != nullptr && flag->load(std::memory_order_relaxed)) {
    throw Error("CANCELLED", std::string(operation) + " was cancelled because the mapping is being closed");
  }
}

}  // namespace rdma_migrate::memory
