#include "dirty/page_hash.h"

#include <sys/random.h>

#include <cerrno>
#include <cstring>
#include <span>

#include "error.h"
#include "memory/zero_page.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// A guest may write the page that is being read: native/dirty/hash.h says what a torn result means.
#define RDMA_MIGRATE_READS_LIVE_MEMORY __attribute__((no_sanitize("thread")))

namespace rdma_migrate::dirty {
namespace {

constexpr size_t kWords = PageHash::kChunk / 8;

using Sums = PageHash::Sums;

void fill_random(void* bytes, size_t length) {
  auto* at = static_cast<uint8_t*>(bytes);
  while (length > 0) {
    const ssize_t got = getrandom(at, length, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) throw Error("INTERNAL", "the system gives no random numbers (getrandom)", errno);
    at += got;
    length -= static_cast<size_t>(got);
  }
}

RDMA_MIGRATE_READS_LIVE_MEMORY Sums scan_portable(const uint8_t* chunk, const uint64_t* key) {
  Sums sums = {};
  const auto* words = reinterpret_cast<const uint64_t*>(chunk);
  for (size_t i = 0; i < kWords; ++i) {
    const uint64_t word = words[i];
    for (size_t pass = 0; pass < sums.size(); ++pass) {
      const uint64_t k = key[i + pass];
      const uint64_t low = static_cast<uint32_t>(word) + static_cast<uint32_t>(k);
      const uint64_t high = static_cast<uint32_t>(word >> 32) + static_cast<uint32_t>(k >> 32);
      sums[pass] += (low & 0xffffffff) * (high & 0xffffffff);
    }
  }
  return sums;
}

#if defined(__x86_64__)

RDMA_MIGRATE_READS_LIVE_MEMORY Sums scan_sse2(const uint8_t* chunk, const uint64_t* key) {
  __m128i lanes[PageHash::kPasses] = {};
  const auto* words = reinterpret_cast<const __m128i*>(chunk);
  for (size_t i = 0; i < kWords / 2; ++i) {
    const __m128i data = _mm_load_si128(words + i);
    for (size_t pass = 0; pass < PageHash::kPasses; ++pass) {
      const auto* k = reinterpret_cast<const __m128i*>(key + 2 * i + pass);
      const __m128i sum = _mm_add_epi32(data, _mm_loadu_si128(k));
      lanes[pass] = _mm_add_epi64(lanes[pass], _mm_mul_epu32(sum, _mm_srli_epi64(sum, 32)));
    }
  }
  Sums sums;
  for (size_t pass = 0; pass < sums.size(); ++pass) {
    uint64_t halves[2];
    std::memcpy(halves, &lanes[pass], sizeof halves);
    sums[pass] = halves[0] + halves[1];
  }
  return sums;
}

__attribute__((target("avx2"))) RDMA_MIGRATE_READS_LIVE_MEMORY Sums scan_avx2(const uint8_t* chunk,
                                                                              const uint64_t* key) {
  __m256i lanes[PageHash::kPasses] = {};
  const auto* words = reinterpret_cast<const __m256i*>(chunk);
  for (size_t i = 0; i < kWords / 4; ++i) {
    const __m256i data = _mm256_load_si256(words + i);
    for (size_t pass = 0; pass < PageHash::kPasses; ++pass) {
      const auto* k = reinterpret_cast<const __m256i*>(key + 4 * i + pass);
      const __m256i sum = _mm256_add_epi32(data, _mm256_loadu_si256(k));
      lanes[pass] = _mm256_add_epi64(lanes[pass], _mm256_mul_epu32(sum, _mm256_srli_epi64(sum, 32)));
    }
  }
  Sums sums;
  for (size_t pass = 0; pass < sums.size(); ++pass) {
    uint64_t quarters[4];
    std::memcpy(quarters, &lanes[pass], sizeof quarters);
    sums[pass] = quarters[0] + quarters[1] + quarters[2] + quarters[3];
  }
  return sums;
}

#endif

PageHash::Scan best_scan() {
  static const PageHash::Scan best = [] {
    size_t count = 0;
    return PageHash::scans(&count)[0].scan;
  }();
  return best;
}

}  // namespace

const PageHash::Named* PageHash::scans(size_t* count) {
#if defined(__x86_64__)
  static const Named all[] = {{"avx2", scan_avx2}, {"sse2", scan_sse2}, {"portable", scan_portable}};
  const size_t skipped = __builtin_cpu_supports("avx2") ? 0 : 1;
#else
  static const Named all[] = {{"portable", scan_portable}};
  const size_t skipped = 0;
#endif
  *count = sizeof(all) / sizeof(all[0]) - skipped;
  return all + skipped;
}

PageHash::PageHash() {
  fill_random(key_.data(), sizeof key_);
  fill_random(fold_.data(), sizeof fold_);
}

PageDigest PageHash::digest(const uint8_t* page, size_t length) const {
  return digest_with(best_scan(), page, length);
}

PageDigest PageHash::digest_with(Scan scan, const uint8_t* page, size_t length) const {
  if (memory::is_zero(page, length)) return {};
  uint64_t halves[2] = {};
  for (size_t at = 0; at < length; at += kChunk) {
    const Sums sums = scan(page + at, key_.data());
    for (size_t half = 0; half < 2; ++half) {
      Wide total = fold_[half][kPasses] * halves[half];
      for (size_t pass = 0; pass < kPasses; ++pass) total += fold_[half][pass] * sums[pass];
      halves[half] = static_cast<uint64_t>(total >> 64);
    }
  }
  // Zero is reserved for pages of zeros.
  return {halves[0] == 0 && halves[1] == 0 ? 1 : halves[0], halves[1]};
}

}  // namespace rdma_migrate::dirty
