#include "memory/zero_page.h"

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// A guest may write the page that is being scanned. Every value read is used once, so such a race can only
// make the answer outdated, and then the dirty tracker has the page.
#define RDMA_MIGRATE_SCANS_LIVE_MEMORY __attribute__((no_sanitize("thread")))

namespace rdma_migrate::memory {
namespace {

constexpr size_t kBlock = 256;

RDMA_MIGRATE_SCANS_LIVE_MEMORY bool is_zero_portable(const uint8_t* data, size_t length) {
  for (size_t at = 0; at < length; at += kBlock) {
    const auto* words = reinterpret_cast<const uint64_t*>(data + at);
    uint64_t any = 0;
    for (size_t i = 0; i < kBlock / sizeof(uint64_t); ++i) any |= words[i];
    if (any != 0) return false;
  }
  return true;
}

#if defined(__x86_64__)

RDMA_MIGRATE_SCANS_LIVE_MEMORY bool is_zero_sse2(const uint8_t* data, size_t length) {
  for (size_t at = 0; at < length; at += kBlock) {
    const auto* lanes = reinterpret_cast<const __m128i*>(data + at);
    __m128i any = _mm_setzero_si128();
    for (size_t i = 0; i < kBlock / sizeof(__m128i); ++i) any = _mm_or_si128(any, _mm_load_si128(lanes + i));
    if (_mm_movemask_epi8(_mm_cmpeq_epi8(any, _mm_setzero_si128())) != 0xffff) return false;
  }
  return true;
}

__attribute__((target("avx2"))) RDMA_MIGRATE_SCANS_LIVE_MEMORY bool is_zero_avx2(const uint8_t* data,
                                                                                 size_t length) {
  for (size_t at = 0; at < length; at += kBlock) {
    const auto* lanes = reinterpret_cast<const __m256i*>(data + at);
    __m256i any = _mm256_setzero_si256();
    for (size_t i = 0; i < kBlock / sizeof(__m256i); ++i)
      any = _mm256_or_si256(any, _mm256_load_si256(lanes + i));
    if (_mm256_testz_si256(any, any) == 0) return false;
  }
  return true;
}

#elif defined(__aarch64__)

RDMA_MIGRATE_SCANS_LIVE_MEMORY bool is_zero_neon(const uint8_t* data, size_t length) {
  for (size_t at = 0; at < length; at += kBlock) {
    uint8x16_t any = vdupq_n_u8(0);
    for (size_t i = 0; i < kBlock; i += 16) any = vorrq_u8(any, vld1q_u8(data + at + i));
    if (vmaxvq_u8(any) != 0) return false;
  }
  return true;
}

#endif

}  // namespace

namespace internal {

const ZeroScan* zero_scans(size_t* count) {
#if defined(__x86_64__)
  static const ZeroScan scans[] = {
      {"avx2", is_zero_avx2}, {"sse2", is_zero_sse2}, {"portable", is_zero_portable}};
  const size_t skipped = __builtin_cpu_supports("avx2") ? 0 : 1;
#elif defined(__aarch64__)
  static const ZeroScan scans[] = {{"neon", is_zero_neon}, {"portable", is_zero_portable}};
  const size_t skipped = 0;
#else
  static const ZeroScan scans[] = {{"portable", is_zero_portable}};
  const size_t skipped = 0;
#endif
  *count = sizeof(scans) / sizeof(scans[0]) - skipped;
  return scans + skipped;
}

}  // namespace internal

namespace {

const internal::ZeroScan& best_scan() {
  static const internal::ZeroScan best = [] {
    size_t count = 0;
    return internal::zero_scans(&count)[0];
  }();
  return best;
}

}  // namespace

bool is_zero(const uint8_t* data, size_t length) { return best_scan().is_zero(data, length); }

std::string_view zero_scan_name() { return best_scan().name; }

}  // namespace rdma_migrate::memory
