// Finds out whether memory is zero, as fast as the CPU reads it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace rdma_migrate::memory {

// True if `length` bytes are zero. Stops at the first block (at most 256 bytes) that is not. length: a
// multiple of 256; data: 64-byte aligned. Another thread (a running guest) may write meanwhile: see
// native/memory/classify.h for what the answer means then.
bool is_zero(const uint8_t* data, size_t length);

// The instruction set in use: "avx2", "sse2", "neon" or "portable".
std::string_view zero_scan_name();

namespace internal {

// An implementation available in this build and on this CPU, for tests.
struct ZeroScan {
  std::string_view name;
  bool (*is_zero)(const uint8_t* data, size_t length);
};
// The best first; `count` is set to how many there are.
const ZeroScan* zero_scans(size_t* count);

}  // namespace internal
}  // namespace rdma_migrate::memory
