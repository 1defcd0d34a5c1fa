// Tables that move a CRC32C over zero bytes, so that the CRCs of neighbouring pieces can be joined: CRC(a+b)
// is shift(CRC(a), size of b) xor CRC(b).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace rdma_migrate::iwarp {

constexpr uint32_t kCrc32cPolynomial = 0x82f63b78;  // bit-reversed 0x1edc6f41

// The CRC register after one more zero bit.
constexpr uint32_t crc32c_shift_bit(uint32_t crc) { return crc >> 1 ^ (crc & 1 ? kCrc32cPolynomial : 0); }

class Crc32cShift {
 public:
  // bytes: how far; any number.
  explicit Crc32cShift(size_t bytes) {
    std::array<uint32_t, 32>
        power{};  // the linear map of 2^i zero bytes, as the images of the 32 unit vectors
    for (int bit = 0; bit < 32; ++bit) power[bit] = shift_byte(uint32_t{1} << bit);
    std::array<uint32_t, 32> result{};
    for (int bit = 0; bit < 32; ++bit) result[bit] = uint32_t{1} << bit;
    for (; bytes != 0; bytes >>= 1) {
      if (bytes & 1) result = compose(power, result);
      power = compose(power, power);
    }
    for (uint32_t position = 0; position < 4; ++position) {
      for (uint32_t value = 0; value < 256; ++value)
        table_[position][value] = apply(result, value << 8 * position);
    }
  }

  uint32_t operator()(uint32_t crc) const {
    return table_[0][crc & 0xff] ^ table_[1][crc >> 8 & 0xff] ^ table_[2][crc >> 16 & 0xff] ^
           table_[3][crc >> 24];
  }

 private:
  using Map = std::array<uint32_t, 32>;
  static uint32_t shift_byte(uint32_t crc) {
    for (int bit = 0; bit < 8; ++bit) crc = crc32c_shift_bit(crc);
    return crc;
  }
  static uint32_t apply(const Map& map, uint32_t vector) {
    uint32_t sum = 0;
    for (int bit = 0; vector != 0; ++bit, vector >>= 1) {
      if (vector & 1) sum ^= map[bit];
    }
    return sum;
  }
  static Map compose(const Map& outer, const Map& inner) {
    Map composed{};
    for (int bit = 0; bit < 32; ++bit) composed[bit] = apply(outer, inner[bit]);
    return composed;
  }

  std::array<std::array<uint32_t, 256>, 4> table_{};
};

}  // namespace rdma_migrate::iwarp
