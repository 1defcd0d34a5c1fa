// A 128-bit digest of a page's content under a secret key.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace rdma_migrate::dirty {

// {0, 0} is the digest of a page of zeros and of nothing else.
struct PageDigest {
  uint64_t low = 0;
  uint64_t high = 0;
  bool operator==(const PageDigest&) const = default;
};

// NH (Black et al., "UMAC", CRYPTO 1999) in four Toeplitz passes over 4 KiB at a time, folded to 128 bits by
// multilinear hashing (Dietzfelbinger 1996). Any two contents chosen without knowledge of the key
// collide with a probability of about 2^-128. The key comes from the system's random numbers, so a guest
// cannot construct pages that collide.
class PageHash {
 public:
  // Throws Error: INTERNAL (no random numbers).
  PageHash();

  // page: 64-byte aligned; length: a multiple of 4096. It may be written meanwhile: then the result is
  // meaningless, but there is one (native/dirty/hash.h says what it is for).
  PageDigest digest(const uint8_t* page, size_t length) const;

  static constexpr size_t kChunk = 4096;  // bytes hashed at a time
  static constexpr size_t kPasses = 4;
  using Sums = std::array<uint64_t, kPasses>;
  using Scan = Sums (*)(const uint8_t* chunk, const uint64_t* key);

  // As digest(), with one of scans(): for tests.
  PageDigest digest_with(Scan scan, const uint8_t* page, size_t length) const;
  struct Named {
    std::string_view name;
    Scan scan;
  };
  // The implementations that this build and CPU have, the best first.
  static const Named* scans(size_t* count);

 private:
  // 64 bits of input each: two 32-bit words of NH. Each pass begins one word further.
  std::array<uint64_t, kChunk / 8 + kPasses> key_;
  // Factors of the four sums and of the previous value, for each half of the result.
  __extension__ using Wide = unsigned __int128;
  std::array<std::array<Wide, kPasses + 1>, 2> fold_;
};

}  // namespace rdma_migrate::dirty
