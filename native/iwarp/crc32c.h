// CRC32C (Castagnoli), the checksum of MPA (RFC 5044 section 4.4; polynomial and vectors: RFC 3720 appendix
// B.4).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace rdma_migrate::iwarp {

// The CRC of data; seed is the CRC of the bytes before it, 0 at the start: crc32c(b, crc32c(a)) == crc32c(a +
// b). The fastest of the CPU's ways is chosen at the first call.
uint32_t crc32c(std::span<const uint8_t> data, uint32_t seed = 0);
// The same of bytes that somebody may be writing: copies them to `to`, and gives the CRC of what is there
// now.
uint32_t crc32c_copy(uint8_t* to, std::span<const uint8_t> from, uint32_t seed = 0);

// The implementations. A pointer is null where this CPU or build has none.
using Crc32cFunction = uint32_t (*)(const uint8_t* data, size_t size, uint32_t seed);
uint32_t crc32c_portable(const uint8_t* data, size_t size, uint32_t seed);
Crc32cFunction crc32c_hardware();
Crc32cFunction crc32c_fold();

// The same for crc32c_copy(); in pieces is as fast as crc32c() is.
using Crc32cCopyFunction = uint32_t (*)(uint8_t* to, const uint8_t* from, size_t size, uint32_t seed);
uint32_t crc32c_copy_in_pieces(uint8_t* to, const uint8_t* from, size_t size, uint32_t seed);
Crc32cCopyFunction crc32c_fold_copy();

}  // namespace rdma_migrate::iwarp
