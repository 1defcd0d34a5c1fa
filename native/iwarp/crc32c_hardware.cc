// CRC32C with the CPU's instruction. One instruction has a latency of three cycles and a throughput of one,
// so three pieces are run side by side and joined with Crc32cShift.
#include <cstring>

#include "iwarp/crc32c.h"
#include "iwarp/crc32c_tables.h"

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("sse4.2")
#include <nmmintrin.h>
#define RDMA_MIGRATE_CRC_STEP8(crc, word) static_cast<uint32_t>(_mm_crc32_u64(crc, word))
#define RDMA_MIGRATE_CRC_STEP1(crc, byte) _mm_crc32_u8(crc, byte)
#elif defined(__aarch64__)
#include <sys/auxv.h>
#pragma GCC push_options
#pragma GCC target("+crc")
#include <arm_acle.h>
#define RDMA_MIGRATE_CRC_STEP8(crc, word) __crc32cd(crc, word)
#define RDMA_MIGRATE_CRC_STEP1(crc, byte) __crc32cb(crc, byte)
#endif

namespace rdma_migrate::iwarp {

#if defined(RDMA_MIGRATE_CRC_STEP8)
namespace {

// Long pieces make the joins cheap, short ones serve what is left: three of 4096 fit 15 times into an FPDU.
constexpr size_t kLong = 4096;
constexpr size_t kShort = 256;

uint64_t load64(const uint8_t* p) {
  uint64_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

uint32_t triple(const uint8_t* data, size_t piece, uint32_t crc, const Crc32cShift& shift) {
  uint32_t second = 0;
  uint32_t third = 0;
  for (size_t at = 0; at < piece; at += 8) {
    crc = RDMA_MIGRATE_CRC_STEP8(crc, load64(data + at));
    second = RDMA_MIGRATE_CRC_STEP8(second, load64(data + piece + at));
    third = RDMA_MIGRATE_CRC_STEP8(third, load64(data + 2 * piece + at));
  }
  return shift(shift(crc) ^ second) ^ third;
}

uint32_t interleaved(const uint8_t* data, size_t size, uint32_t seed) {
  static const Crc32cShift long_shift(kLong);
  static const Crc32cShift short_shift(kShort);
  uint32_t crc = ~seed;
  for (; size >= 3 * kLong; data += 3 * kLong, size -= 3 * kLong) crc = triple(data, kLong, crc, long_shift);
  for (; size >= 3 * kShort; data += 3 * kShort, size -= 3 * kShort)
    crc = triple(data, kShort, crc, short_shift);
  for (; size >= 8; data += 8, size -= 8) crc = RDMA_MIGRATE_CRC_STEP8(crc, load64(data));
  for (; size != 0; ++data, --size) crc = RDMA_MIGRATE_CRC_STEP1(crc, *data);
  return ~crc;
}

}  // namespace
#pragma GCC pop_options
#endif

Crc32cFunction crc32c_hardware() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("sse4.2") ? interleaved : nullptr;
#elif defined(__aarch64__)
  return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0 ? interleaved : nullptr;
#else
  return nullptr;
#endif
}

}  // namespace rdma_migrate::iwarp
