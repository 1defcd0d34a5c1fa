// CRC32C (Castagnoli), the checksum of MPA (RFC 5044 section 4.4; polynomial and vectors: RFC 3720 appendix
// B.4).
#pragma once

#include <cstdint>
#include <span>

namespace rdma_migrate::iwarp {

// The CRC of data; seed is the CRC of the bytes before it, 0 at the start: crc32c(b, crc32c(a)) == crc32c(a +
// b). The fastest of the CPU's ways is chosen at the first call.
uint32_t crc32c(std::span<const uint8_t> data, uint32_t seed = 0);

// The implementations. A pointer is null where this CPU or build has none.
using Crc32cFunction = uint32_t (*)(const uint8_t* data, size_t size, uint32_t seed);
uint32_t crc32c_portable(const uint8_t* data, size_t size, uint32_t seed);
Crc32cFunction crc32c_hardware();

}  // namespace rdma_migrate::iwarp
