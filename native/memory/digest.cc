#include "memory/digest.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>

#include "memory/extents.h"
#include "memory/zero_page.h"

namespace rdma_migrate::memory {
namespace {

// The digest is compared between hosts.
static_assert(std::endian::native == std::endian::little, "load() would have to swap bytes");

// Odd constants with about as many ones as zeros: the first digits of pi after the point, in hexadecimal.
constexpr std::array<uint64_t, 8> kKeys = {0x243f6a8885a308d3, 0x13198a2e03707345, 0xa4093822299f31d1,
                                           0x082efa98ec4e6c89, 0x452821e638d01377, 0xbe5466cf34e90c6d,
                                           0xc0ac29b7c97c50dd, 0x3f84d5b5b5470917};

__extension__ using Wide = unsigned __int128;

// Both halves of the 128-bit product, folded: every bit of either factor reaches every bit of the result.
uint64_t fold(uint64_t a, uint64_t b) {
  const Wide product = Wide{a} * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t load(const uint8_t* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

// Four lanes of 16 bytes run in parallel so that the multiplier is never idle. `sums` is a second,
// independent check of each lane: a collision must happen in both.
Digest digest_page(const uint8_t* page, uint64_t number) {
  std::array<uint64_t, 4> lanes = {kKeys[0], kKeys[1], kKeys[2], kKeys[3]};
  std::array<uint64_t, 4> sums = {};
  for (uint64_t at = 0; at < kTargetPageSize; at += 64) {
    for (size_t i = 0; i < 4; ++i) {
      const uint64_t a = load(page + at + 16 * i), b = load(page + at + 16 * i + 8);
      lanes[i] = fold(lanes[i] ^ a, b ^ kKeys[4 + i]) + std::rotl(lanes[i], 23);
      sums[i] = std::rotl(sums[i], 5) + a + std::rotl(b, 32);
    }
  }
  Digest result;
  for (size_t i = 0; i < 4; ++i) {
    const uint64_t mixed = fold(lanes[i] ^ kKeys[(i + 1) % 4], sums[i] ^ kKeys[4 + i]) + lanes[(i + 1) % 4] +
                           std::rotl(sums[(i + 2) % 4], 29) + lanes[(i + 3) % 4] * kKeys[i];
    result[i] =
        fold(mixed ^ kKeys[i], (number + 1) * kKeys[4 + i]) ^ fold(mixed + number, kKeys[(i + 2) % 4]);
  }
  return result;
}

void add_pages(Digest& total, const Mapping& mapping, const Range& range) {
  fault_in(mapping, range);
  for (uint64_t at = range.offset; at < range.end(); at += kTargetPageSize) {
    if (is_zero(mapping.data() + at, kTargetPageSize)) continue;
    const Digest page = digest_page(mapping.data() + at, at / kTargetPageSize);
    for (size_t i = 0; i < total.size(); ++i) total[i] += page[i];
  }
}

Digest digest_range(const Mapping& mapping, const Range& range, const CancelFlag* cancel,
                    std::atomic<uint64_t>* done) {
  const auto tell = [done](uint64_t end) {
    if (done != nullptr) done->store(end, std::memory_order_relaxed);
  };
  Digest total;
  for (size_t i = 0; i < total.size(); ++i) total[i] = fold(mapping.length() ^ kKeys[i], kKeys[7 - i]);
  ExtentCursor cursor(mapping, range.offset, range.length);
  for (Extent extent; cursor.next(&extent);) {
    if (extent.is_hole) {
      tell(extent.range.end());
      continue;
    }
    for (uint64_t at = extent.range.offset; at < extent.range.end();) {
      throw_if_cancelled(cancel, "digest");
      const uint64_t length = std::min(kStepBytes, extent.range.end() - at);
      add_pages(total, mapping, {at, length});
      at += length;
      tell(at);
    }
  }
  return total;
}

}  // namespace

Digest digest(const Mapping& mapping, const CancelFlag* cancel, std::atomic<uint64_t>* done) {
  return digest_range(mapping, {0, mapping.length()}, cancel, done);
}

std::vector<Digest> digest_chunks(const Mapping& mapping, const Range& range, uint64_t chunk,
                                  const CancelFlag* cancel) {
  std::vector<Digest> digests;
  for (uint64_t at = range.offset; at < range.end(); at += chunk)
    digests.push_back(digest_range(mapping, {at, std::min(chunk, range.end() - at)}, cancel, nullptr));
  return digests;
}

std::string to_hex(const Digest& digest) {
  std::string text;
  for (const uint64_t word : digest) {
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(word));
    text += digits;
  }
  return text;
}

}  // namespace rdma_migrate::memory
